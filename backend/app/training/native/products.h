/* What the files with products of bfloat16 share. They need vectors of 512 bits (HAS_PRODUCTS where the compiler's processor has
 * them), with instructions for bfloat16 or without; where it has tiles besides (HAS_TILES: Intel AMX), these do the products. */
#include <stdint.h>

typedef int64_t num;
typedef uint16_t bf16;

#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VL__) && defined(__AVX512DQ__)
#define HAS_PRODUCTS
#include <immintrin.h>

#define TILE 512 /* bfloat16 numbers in a tile: 16 rows of 64 bytes */
#define LOG2_E 1.44269504f
#define INLINE static inline __attribute__((always_inline))

/* Whether products go through tiles now; attention.c decides. */
extern int with_tiles;

#if defined(__AMX_TILE__) && defined(__AMX_BF16__) && defined(__linux__)
#define HAS_TILES

static void configure_tiles(void) {
    if (!with_tiles) return;
    struct { uint8_t palette, start, zero[14]; uint16_t bytes[16]; uint8_t rows[16]; } config = {.palette = 1};
    for (int tile = 0; tile < 8; tile++) {
        config.bytes[tile] = 64;
        config.rows[tile] = 16;
    }
    _tile_loadconfig(&config);
}

static void release_tiles(void) {
    if (with_tiles) _tile_release();
}
#else
static void configure_tiles(void) {}
static void release_tiles(void) {}
#endif

/* 2^x within 4e-6 of its value: 2^n times a polynomial of the rest, |rest| <= 1/2. What is not a number stays so. */
static inline __m512 power_of_two(__m512 x) {
    __m512 n = _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC), r = _mm512_sub_ps(x, n);
    __m512 p = _mm512_set1_ps(1.33335581e-3f);
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(9.61812911e-3f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(5.55041087e-2f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(2.40226507e-1f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(6.93147181e-1f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f));
    return _mm512_scalef_ps(p, n);
}

static inline __m512 widen(__m256i stored) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(stored), 16));
}

#ifdef __AVX512BF16__
static inline __m256i narrow(__m512 value) { return (__m256i)_mm512_cvtneps_pbh(value); }

/* sum + a[2 i] b[2 i] + a[2 i + 1] b[2 i + 1] in lane i */
static inline __m512 add_pairs(__m512 sum, __m512i a, __m512i b) { return _mm512_dpbf16_ps(sum, (__m512bh)a, (__m512bh)b); }
#else
/* Round to nearest, ties to even; what is not a number stays so. */
static inline __m256i narrow(__m512 value) {
    __m512i bits = _mm512_castps_si512(value), odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    __m512i up = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
    up = _mm512_mask_mov_epi32(up, _mm512_cmp_ps_mask(value, value, _CMP_UNORD_Q), _mm512_set1_epi32(0x7fc00000));
    return _mm512_cvtepi32_epi16(_mm512_srli_epi32(up, 16));
}

static inline __m512 add_pairs(__m512 sum, __m512i a, __m512i b) {
    __m512i later = _mm512_set1_epi32((int)0xffff0000);
    sum = _mm512_fmadd_ps(_mm512_castsi512_ps(_mm512_slli_epi32(a, 16)), _mm512_castsi512_ps(_mm512_slli_epi32(b, 16)), sum);
    return _mm512_fmadd_ps(_mm512_castsi512_ps(_mm512_and_si512(a, later)), _mm512_castsi512_ps(_mm512_and_si512(b, later)), sum);
}
#endif

/* Sums of a product that stay in registers: `rows` by one or two columns of 16. The counts are constants wherever they are used. */
typedef __m512 Sums[16][2];
#define EACH(rows, columns) \
    _Pragma("GCC unroll 16") for (num row = 0; row < (rows); row++) _Pragma("GCC unroll 2") for (num column = 0; column < (columns); column++)

/* sums += 32 numbers of each of `rows` rows, `stride` apart, times one or two tiles, `apart`. */
INLINE void add_rows(num rows, num columns, const bf16 *a, num stride, const bf16 *b, num apart, Sums sums) {
    for (num at = 0; at < 32; at += 2) {
        __m512i first = _mm512_loadu_si512(b + at * 16), second = columns > 1 ? _mm512_loadu_si512(b + apart + at * 16) : first;
#pragma GCC unroll 16
        for (num row = 0; row < rows; row++) {
            __m512i pair = _mm512_set1_epi32(*(const int32_t *)(a + row * stride + at));
            sums[row][0] = add_pairs(sums[row][0], pair, first);
            if (columns > 1) sums[row][1] = add_pairs(sums[row][1], pair, second);
        }
    }
}
#endif
