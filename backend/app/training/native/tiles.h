/* What the files for processors with tiles for bfloat16 products (Intel AMX) share. HAS_TILES where the compiler's processor is one. */
#include <stdint.h>

typedef int64_t num;
typedef uint16_t bf16;

#if defined(__AMX_TILE__) && defined(__AMX_BF16__) && defined(__AVX512BF16__) && defined(__linux__)
#define HAS_TILES
#include <immintrin.h>

#define TILE 512 /* bfloat16 numbers in a tile: 16 rows of 64 bytes */
#define LOG2_E 1.44269504f

static void configure_tiles(void) {
    struct { uint8_t palette, start, zero[14]; uint16_t bytes[16]; uint8_t rows[16]; } config = {.palette = 1};
    for (int tile = 0; tile < 8; tile++) {
        config.bytes[tile] = 64;
        config.rows[tile] = 16;
    }
    _tile_loadconfig(&config);
}

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

static inline __m256i narrow(__m512 value) { return (__m256i)_mm512_cvtneps_pbh(value); }
#endif
