/* Causal attention of training in bfloat16, forward and backward.
 *
 * Scores are never kept: the forward pass leaves the binary logarithm of each query's sum of exponentials, the backward pass
 * computes the scores again from it (Dao 2023, arXiv 2307.08691). Blocks of 32 queries by 32 keys; what lies wholly in
 * the future is left out. Products of bfloat16 are added up in float. Formulas: see attention.py.
 *
 * A tile holds 16 rows of 64 bytes, whether the processor knows tiles or not. In a product A B the tiles of A are plain rows of 32 numbers; those of B hold rows
 * of 16 pairs, (B[2r][c], B[2r + 1][c]). Arrays are padded with zeros to multiples of 32. Each pair of row and key head
 * is computed by one thread in a fixed order, so results do not depend on the number of threads.
 */
#define _DEFAULT_SOURCE /* syscall */
#include "products.h"

#ifdef HAS_PRODUCTS
#include <math.h>
#include <stdlib.h>
#include <string.h>
#ifdef HAS_TILES
#include <sys/syscall.h>
#include <unistd.h>
#endif

#define BLOCK 32
#define STRIP 8     /* rows of a product at a time, where there are no tiles */
#define SPAN 4      /* blocks of queries whose share of the keys' gradients is added up in registers */

static num padded(num size) { return (size + BLOCK - 1) / BLOCK * BLOCK; }

/* The first `count` of 16 lanes. */
static inline __mmask16 first(num count) { return count >= 16 ? 0xffff : count <= 0 ? 0 : (__mmask16)((1u << count) - 1); }

/* Transpose 16 rows of 16 numbers of 32 bits. */
static inline void transpose(__m512i *row) {
    __m512i t[16];
    for (int i = 0; i < 8; i++) {
        t[2 * i] = _mm512_unpacklo_epi32(row[2 * i], row[2 * i + 1]);
        t[2 * i + 1] = _mm512_unpackhi_epi32(row[2 * i], row[2 * i + 1]);
    }
    for (int i = 0; i < 4; i++) {
        row[4 * i] = _mm512_unpacklo_epi64(t[4 * i], t[4 * i + 2]);
        row[4 * i + 1] = _mm512_unpackhi_epi64(t[4 * i], t[4 * i + 2]);
        row[4 * i + 2] = _mm512_unpacklo_epi64(t[4 * i + 1], t[4 * i + 3]);
        row[4 * i + 3] = _mm512_unpackhi_epi64(t[4 * i + 1], t[4 * i + 3]);
    }
    for (int i = 0; i < 4; i++) {
        t[i] = _mm512_shuffle_i32x4(row[i], row[i + 4], 0x88);
        t[i + 4] = _mm512_shuffle_i32x4(row[i], row[i + 4], 0xdd);
        t[i + 8] = _mm512_shuffle_i32x4(row[i + 8], row[i + 12], 0x88);
        t[i + 12] = _mm512_shuffle_i32x4(row[i + 8], row[i + 12], 0xdd);
    }
    for (int i = 0; i < 8; i++) {
        row[i] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0x88);
        row[i + 8] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0xdd);
    }
}

/* Copy (length, width) into (padded length, padded width). */
static void pad(bf16 *to, const bf16 *from, num length, num width) {
    num wide = padded(width), long_ = padded(length);
    for (num i = 0; i < length; i++) {
        memcpy(to + i * wide, from + i * width, width * sizeof(bf16));
        memset(to + i * wide + width, 0, (wide - width) * sizeof(bf16));
    }
    memset(to + length * wide, 0, (long_ - length) * wide * sizeof(bf16));
}

/* Tiles of B = x, padded (length, width): tile (column block, row block). */
static void pack(bf16 *to, const bf16 *x, num length, num width) {
    for (num column = 0; column < width; column += 16)
        for (num row = 0; row < length; row += 2, to += 32) {
            __m512i even = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)(x + row * width + column)));
            __m512i odd = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)(x + (row + 1) * width + column)));
            _mm512_storeu_si512(to, _mm512_or_si512(even, _mm512_slli_epi32(odd, 16)));
        }
}

/* Tiles of B = the transpose of x, padded (length, width): tile (column block of B, row block of B). */
static void pack_transposed(bf16 *to, const bf16 *x, num length, num width) {
    __m512i rows[16];
    for (num row = 0; row < length; row += 16)
        for (num column = 0; column < width; column += 32, to += TILE) {
            for (int i = 0; i < 16; i++) rows[i] = _mm512_loadu_si512(x + (row + i) * width + column);
            transpose(rows);
            for (int i = 0; i < 16; i++) _mm512_storeu_si512(to + 32 * i, rows[i]);
        }
}

/* Where the tiles of a factor lie, in numbers: from a row to the next, a step of 32 in the sum, the second 16 rows or columns. */
typedef struct { const bf16 *at; num row, step, half; } Factor;

#ifdef HAS_TILES
static inline void multiply_tiles(Factor a, Factor b, num steps, float *c, num stride, int add) {
    num bytes = stride * sizeof(float);
    __asm__ volatile("" ::: "memory"); /* gcc may move stores beyond the loading of a tile */
    if (add) {
        _tile_loadd(0, c, bytes);
        _tile_loadd(1, c + 16, bytes);
        _tile_loadd(2, c + 16 * stride, bytes);
        _tile_loadd(3, c + 16 * stride + 16, bytes);
    } else {
        _tile_zero(0);
        _tile_zero(1);
        _tile_zero(2);
        _tile_zero(3);
    }
    for (num step = 0; step < steps; step++) {
        _tile_loadd(4, a.at + step * a.step, a.row * sizeof(bf16));
        _tile_loadd(6, b.at + step * b.step, 64);
        _tile_loadd(7, b.at + step * b.step + b.half, 64);
        _tile_loadd(5, a.at + step * a.step + a.half, a.row * sizeof(bf16));
        _tile_dpbf16ps(0, 4, 6);
        _tile_dpbf16ps(1, 4, 7);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
    }
    _tile_stored(0, c, bytes);
    _tile_stored(1, c + 16, bytes);
    _tile_stored(2, c + 16 * stride, bytes);
    _tile_stored(3, c + 16 * stride + 16, bytes);
    __asm__ volatile("" ::: "memory");
}
#endif

/* c (32, 32) = A B or, with `add`, c + A B, over `steps` times 32. */
static void multiply(Factor a, Factor b, num steps, float *c, num stride, int add) {
#ifdef HAS_TILES
    if (with_tiles) {
        multiply_tiles(a, b, steps, c, stride, add);
        return;
    }
#endif
    for (num from = 0; from < 32; from += STRIP, c += STRIP * stride) {
        const bf16 *rows = a.at + from / 16 * a.half + from % 16 * a.row;
        Sums sums;
        EACH(STRIP, 2) sums[row][column] = add ? _mm512_loadu_ps(c + row * stride + 16 * column) : _mm512_setzero_ps();
        for (num step = 0; step < steps; step++)
            add_rows(STRIP, 2, rows + step * a.step, a.row, b.at + step * b.step, b.half, sums);
        EACH(STRIP, 2) _mm512_storeu_ps(c + row * stride + 16 * column, sums[row][column]);
    }
}

/* 32 rows of a padded array, as A. */
static inline Factor rows_of(const bf16 *x, num width) { return (Factor){x, width, 32, 16 * width}; }

/* 32 columns of packed B with `depth` rows. */
static inline Factor columns_of(const bf16 *packed, num block, num depth) {
    num column = depth / 32 * TILE;
    return (Factor){packed + 2 * block * column, 32, TILE, column};
}

/* Room of one thread, grown when a longer row comes. */
static _Thread_local char *room;
static _Thread_local size_t room_bytes;

static char *take_room(size_t bytes) {
    if (bytes > room_bytes) {
        free(room);
        room = aligned_alloc(64, (bytes + 4095) / 4096 * 4096);
        room_bytes = bytes;
        if (!room) abort();
    }
    return room;
}

static void *cut(char **from, size_t bytes) {
    void *at = *from;
    *from += (bytes + 63) / 64 * 64;
    return at;
}

/* Write 32 x 32 numbers, each row times its factor, into what exists of (length, width). */
static inline void put(const float *c, num stride, const float *factors, num rows, num columns, bf16 *to, num to_stride) {
    for (num i = 0; i < rows; i++) {
        __m512 factor = _mm512_set1_ps(factors ? factors[i] : 1.0f);
        for (num j = 0; j < 2; j++)
            _mm256_mask_storeu_epi16(to + i * to_stride + 16 * j, first(columns - 16 * j),
                                     narrow(_mm512_mul_ps(_mm512_loadu_ps(c + i * stride + 16 * j), factor)));
    }
}

static inline num least(num a, num b) { return a < b ? a : b; }

int with_tiles;

/* Let products go through tiles where there are some and they are `wanted`; return whether they do. */
int use_tiles(int wanted) {
    (void)wanted;
#ifdef HAS_TILES
    /* ARCH_REQ_XCOMP_PERM for the state of tiles: Linux gives it to programs that ask. */
    with_tiles = wanted && syscall(SYS_arch_prctl, 0x1023, 18) == 0;
#endif
    return with_tiles;
}

/* Whether attention and answers are compiled for this processor. */
int has_products(void) {
    static int asked;
    if (!asked) asked = 1, use_tiles(1);
    return 1;
}

static void attend(num length, num width, num groups, float scale, const bf16 *query, const bf16 *key, const bf16 *value,
                   bf16 *out, float *logsums) {
    num l = padded(length), w = padded(width), area = l * w * sizeof(bf16);
    char *from = take_room(4 * area + BLOCK * (l * 6 + 64) + 4096);
    bf16 *x = cut(&from, area), *keys = cut(&from, area), *values = cut(&from, area);
    float *scores = cut(&from, BLOCK * l * sizeof(float)), *block = cut(&from, BLOCK * BLOCK * sizeof(float));
    bf16 *weights = cut(&from, BLOCK * l * sizeof(bf16));
    float parts[BLOCK];
    pad(x, key, length, width);
    pack_transposed(keys, x, l, w);
    pad(x, value, length, width);
    pack(values, x, l, w);
    for (num group = 0; group < groups; group++, query += length * width, out += length * width, logsums += length) {
        pad(x, query, length, width);
        for (num at = 0; at < length; at += BLOCK) {
            num seen = at + BLOCK;
            for (num other = 0; other < seen; other += BLOCK)
                multiply(rows_of(x + at * w, w), columns_of(keys, other / BLOCK, w), w / 32, scores + other, l, 0);
            for (num i = 0; i < BLOCK; i++) {
                const float *s = scores + i * l;
                bf16 *to = weights + i * l;
                num count = at + i < length ? at + i + 1 : 0;
                __m512 most = _mm512_set1_ps(-INFINITY), sum = _mm512_setzero_ps();
                for (num j = 0; j < count; j += 16)
                    most = _mm512_mask_max_ps(most, first(count - j), most, _mm512_loadu_ps(s + j));
                float level = scale * _mm512_reduce_max_ps(most);
                for (num j = 0; j < seen; j += 16) {
                    __m512 power = _mm512_fmsub_ps(_mm512_loadu_ps(s + j), _mm512_set1_ps(scale), _mm512_set1_ps(level));
                    __m512 weight = _mm512_maskz_mov_ps(first(count - j), power_of_two(power));
                    sum = _mm512_add_ps(sum, weight);
                    _mm256_store_si256((__m256i *)(to + j), narrow(weight));
                }
                float total = _mm512_reduce_add_ps(sum);
                parts[i] = 1.0f / total;
                if (count) logsums[at + i] = level + log2f(total);
            }
            for (num column = 0; column < w; column += BLOCK) {
                multiply(rows_of(weights, l), columns_of(values, column / BLOCK, l), seen / 32, block, BLOCK, 0);
                put(block, BLOCK, parts, least(BLOCK, length - at), width - column, out + at * width + column, width);
            }
        }
    }
}

/* 16 weights of one query and the gradients of their scores, as pairs of 32 bits. */
static inline void weigh(const float *scores, const float *pulls, float logsum, float level, float scale, __mmask16 mask,
                         bf16 *slopes, __m512i *weight, __m512i *slope) {
    __m512 power = _mm512_fmsub_ps(_mm512_load_ps(scores), _mm512_set1_ps(scale * LOG2_E), _mm512_set1_ps(logsum));
    __m512 w = _mm512_maskz_mov_ps(mask, power_of_two(power));
    __m512 pull = _mm512_mul_ps(_mm512_sub_ps(_mm512_load_ps(pulls), _mm512_set1_ps(level)), _mm512_set1_ps(scale));
    __m256i d = narrow(_mm512_maskz_mul_ps(mask, w, pull));
    _mm256_store_si256((__m256i *)slopes, d);
    *weight = _mm512_cvtepu16_epi32(narrow(w));
    *slope = _mm512_cvtepu16_epi32(d);
}

/* A block's weights and gradients of scores, (32, 32) each: rows for the queries' gradient, tiles of the transpose for the keys'. */
static inline void find_scores(const float *scores, const float *pulls, num queries, num ahead, float scale, const float *logsums,
                               const float *levels, bf16 *rows, num stride, bf16 *weight_tiles, bf16 *score_tiles, num tile_half) {
    for (num half = 0; half < 2; half++) {
        __m512i weights[16], slopes[16];
        for (num i = 0; i < 16; i++) {
            __m512i w[2], d[2];
            for (num odd = 0; odd < 2; odd++) {
                num at = 2 * i + odd;
                __mmask16 mask = at < queries ? first(ahead + at + 1 - 16 * half) : 0;
                weigh(scores + at * BLOCK + 16 * half, pulls + at * BLOCK + 16 * half, logsums[at], levels[at], scale, mask,
                      rows + at * stride + 16 * half, w + odd, d + odd);
            }
            weights[i] = _mm512_or_si512(w[0], _mm512_slli_epi32(w[1], 16));
            slopes[i] = _mm512_or_si512(d[0], _mm512_slli_epi32(d[1], 16));
        }
        transpose(weights);
        for (int i = 0; i < 16; i++) _mm512_store_si512(weight_tiles + half * tile_half + 32 * i, weights[i]);
        transpose(slopes);
        for (int i = 0; i < 16; i++) _mm512_store_si512(score_tiles + half * tile_half + 32 * i, slopes[i]);
    }
}

static void attend_backward(num length, num width, num groups, float scale, const bf16 *query, const bf16 *key, const bf16 *value,
                            const bf16 *out, const float *logsums, const bf16 *grad, bf16 *grad_query, bf16 *grad_key,
                            bf16 *grad_value) {
    num l = padded(length), w = padded(width), area = l * w * sizeof(bf16), tiles = l * SPAN * BLOCK * sizeof(bf16);
    char *from = take_room(11 * area + 2 * tiles + BLOCK * l * sizeof(bf16) + 2 * l * sizeof(float) + 3 * 4096 + 1024);
    bf16 *x = cut(&from, area), *pulls = cut(&from, area), *keys = cut(&from, area), *values = cut(&from, area);
    bf16 *key_rows = cut(&from, area), *query_rows = cut(&from, area), *grad_rows = cut(&from, area);
    float *key_sums = cut(&from, 2 * area), *value_sums = cut(&from, 2 * area);
    bf16 *weight_tiles = cut(&from, tiles), *score_tiles = cut(&from, tiles), *slopes = cut(&from, BLOCK * l * sizeof(bf16));
    float *levels = cut(&from, l * sizeof(float)), *sums = cut(&from, l * sizeof(float));
    float *block = cut(&from, BLOCK * BLOCK * sizeof(float)), *other_block = cut(&from, BLOCK * BLOCK * sizeof(float));
    num tile_half = SPAN * TILE;
    pad(x, key, length, width);
    pack_transposed(keys, x, l, w);
    pack(key_rows, x, l, w);
    pad(x, value, length, width);
    pack_transposed(values, x, l, w);
    memset(levels, 0, l * sizeof(float));
    memset(sums, 0, l * sizeof(float));
    memset(key_sums, 0, 2 * area);
    memset(value_sums, 0, 2 * area);
    for (num group = 0; group < groups; group++) {
        num skip = group * length * width;
        memcpy(sums, logsums + group * length, length * sizeof(float));
        pad(x, query + skip, length, width);
        pack(query_rows, x, l, w);
        pad(pulls, grad + skip, length, width);
        pack(grad_rows, pulls, l, w);
        for (num i = 0; i < length; i++) {
            const bf16 *a = grad + skip + i * width, *b = out + skip + i * width;
            __m512 sum = _mm512_setzero_ps();
            for (num j = 0; j < width; j += 16) {
                __mmask16 mask = first(width - j);
                sum = _mm512_fmadd_ps(widen(_mm256_maskz_loadu_epi16(mask, a + j)), widen(_mm256_maskz_loadu_epi16(mask, b + j)), sum);
            }
            levels[i] = _mm512_reduce_add_ps(sum);
        }
        for (num begin = 0; begin < length; begin += SPAN * BLOCK) {
            num end = least(begin + SPAN * BLOCK, l);
            for (num at = begin; at < end; at += BLOCK) {
                num place = (at - begin) / BLOCK * TILE;
                for (num other = 0; other <= at; other += BLOCK) {
                    num tile = other / 16 * tile_half + place;
                    multiply(rows_of(x + at * w, w), columns_of(keys, other / BLOCK, w), w / 32, block, BLOCK, 0);
                    multiply(rows_of(pulls + at * w, w), columns_of(values, other / BLOCK, w), w / 32, other_block, BLOCK, 0);
                    find_scores(block, other_block, length - at, at - other, scale, sums + at, levels + at, slopes + other, l,
                                weight_tiles + tile, score_tiles + tile, tile_half);
                }
                for (num column = 0; column < w; column += BLOCK) {
                    multiply(rows_of(slopes, l), columns_of(key_rows, column / BLOCK, l), at / 32 + 1, block, BLOCK, 0);
                    put(block, BLOCK, NULL, least(BLOCK, length - at), width - column, grad_query + skip + at * width + column, width);
                }
            }
            for (num other = 0; other < end; other += BLOCK) {
                num start = other > begin ? other : begin, steps = (end - start) / BLOCK;
                num tile = other / 16 * tile_half + (start - begin) / BLOCK * TILE;
                Factor weights = {weight_tiles + tile, 32, TILE, tile_half}, scores = {score_tiles + tile, 32, TILE, tile_half};
                for (num column = 0; column < w; column += BLOCK) {
                    Factor queries = columns_of(query_rows, column / BLOCK, l), grads = columns_of(grad_rows, column / BLOCK, l);
                    queries.at += start / 32 * TILE;
                    grads.at += start / 32 * TILE;
                    multiply(weights, grads, steps, value_sums + other * w + column, w, 1);
                    multiply(scores, queries, steps, key_sums + other * w + column, w, 1);
                }
            }
        }
    }
    for (num at = 0; at < length; at += BLOCK)
        for (num column = 0; column < width; column += BLOCK) {
            num rows = least(BLOCK, length - at), place = at * width + column;
            put(key_sums + at * w + column, w, NULL, rows, width - column, grad_key + place, width);
            put(value_sums + at * w + column, w, NULL, rows, width - column, grad_value + place, width);
        }
}

/* query and out (batches, groups, length, width), key and value (batches, length, width), logsums (batches, groups, length) */
void attention_bf16(num batches, num groups, num length, num width, float scale, const bf16 *query, const bf16 *key,
                    const bf16 *value, bf16 *out, float *logsums) {
    num size = length * width;
#pragma omp parallel
    {
        configure_tiles();
#pragma omp for schedule(dynamic, 1)
        for (num i = 0; i < batches; i++)
            attend(length, width, groups, scale * LOG2_E, query + i * groups * size, key + i * size, value + i * size,
                   out + i * groups * size, logsums + i * groups * length);
        release_tiles();
    }
}

void attention_backward_bf16(num batches, num groups, num length, num width, float scale, const bf16 *query, const bf16 *key,
                             const bf16 *value, const bf16 *out, const float *logsums, const bf16 *grad, bf16 *grad_query,
                             bf16 *grad_key, bf16 *grad_value) {
    num size = length * width;
#pragma omp parallel
    {
        configure_tiles();
#pragma omp for schedule(dynamic, 1)
        for (num i = 0; i < batches; i++)
            attend_backward(length, width, groups, scale, query + i * groups * size, key + i * size, value + i * size,
                            out + i * groups * size, logsums + i * groups * length, grad + i * groups * size,
                            grad_query + i * groups * size, grad_key + i * size, grad_value + i * size);
        release_tiles();
    }
}

#else
int use_tiles(int wanted) { return wanted && 0; }
int has_products(void) { return 0; }
#endif
