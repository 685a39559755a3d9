/* A whole decoder of the Llama kind in one call, for answers that are written token by token, in bfloat16.
 *
 * What takes the time is reading the weights: each is read once a step, in rows as the model stores them, and meets up to
 * 16 tokens in a vector or a tile, so that 16 tokens cost about what one costs. The tokens of a step may belong to different answers
 * and stand at different places; each has its own adapter or none.
 *
 * Activations lie as (blocks of 16 tokens, features, 16), so that a lane is a token. What is multiplied is kept in pairs of
 * features (features / 2, 16, 2), which are the rows of the tiles. Products of bfloat16 are added up in float, as is the
 * residual stream. A token's numbers never depend on its neighbours in the step nor on the number of threads: an answer is
 * the same, bit for bit, in any company. Python's side: app/training/compiled.py.
 */
#include "products.h"

typedef struct {
    const bf16 *weight, *bias, *a, *b; /* (outputs, inputs), (outputs) or NULL, (rank, inputs) and (outputs, rank) or NULL */
    num outputs;
} Linear;

typedef struct {
    const bf16 *norm, *query_norm, *key_norm, *mlp_norm;
    Linear inputs[3], out, up[2], down; /* queries, keys, values; gate, up */
} Block;

typedef struct {
    num blocks, hidden, heads, key_heads, width, inner, words;
    float eps, scale;
    const bf16 *embeddings, *norm, *head;
    const Block *block;
} Model;

typedef struct {
    num tokens, wanted, rank, threads;
    const num *ids, *places, *rooms; /* of each token: its id, its place in its answer, the places of the answer's cache */
    bf16 *const *caches;             /* of each token's answer: (blocks, keys and values, key heads, room, width); see `keep` */
    const float *cos, *sin;          /* (tokens, width) */
    const int32_t *own;              /* (2, tokens): first and end of the token's rows in A */
    const num *asked;                /* (wanted): tokens whose scores are wanted */
    float *scores;                   /* (wanted, words) */
} Step;

#ifdef HAS_PRODUCTS
#include <math.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#define LANES 16
#define ROWS 32   /* of a weight at a time: two tiles */
#define PLACES 32 /* of an answer whose values lie together; its room is a multiple */
#define KEYS 256  /* scores that are kept at a time */
#define GROUP 16  /* heads of queries to a head of keys, at most */
#define WIDTH 256 /* of a head, at most */
#define NOTHING -1e30f
#define PAUSES 4000  /* for another thread before it may be this one that keeps it waiting */
#define PHASES 12    /* of a block, at most */
#define MORE 8       /* before the first and after the last */

static inline __m512 wide(const bf16 *at) { return widen(_mm256_loadu_si256((const __m256i *)at)); }

static inline float one(bf16 stored) {
    union { uint32_t bits; float value; } both = {(uint32_t)stored << 16};
    return both.value;
}

static inline bf16 rounded(float value) { return (bf16)_mm256_extract_epi16(narrow(_mm512_set1_ps(value)), 0); }

static inline __m512i pair(__m512 even, __m512 odd) {
    return _mm512_or_si512(_mm512_cvtepu16_epi32(narrow(even)), _mm512_slli_epi32(_mm512_cvtepu16_epi32(narrow(odd)), 16));
}

#ifdef HAS_TILES
/* Tiles 0 to 3 += 32 rows of `weight` times one or two blocks of tokens. */
static inline void add_tiles(const bf16 *weight, num inputs, const bf16 *x, num apart, int two, int ahead) {
    for (num at = 0; at < inputs; at += 32) {
        const bf16 *rows = weight + at;
        if (ahead)
            for (num row = ROWS; row < 2 * ROWS; row++) _mm_prefetch((const char *)(rows + row * inputs), _MM_HINT_T1);
        _tile_loadd(6, x + at * LANES, 64);
        _tile_loadd(4, rows, inputs * sizeof(bf16));
        _tile_dpbf16ps(0, 4, 6);
        _tile_loadd(5, rows + 16 * inputs, inputs * sizeof(bf16));
        _tile_dpbf16ps(1, 5, 6);
        if (two) {
            _tile_loadd(7, x + apart + at * LANES, 64);
            _tile_dpbf16ps(2, 4, 7);
            _tile_dpbf16ps(3, 5, 7);
        }
    }
}

static inline void multiply_tiles(const Linear *linear, num row, num inputs, const bf16 *x, const bf16 *low, num rank, int two,
                                  int ahead, float *y) {
    __asm__ volatile("" ::: "memory"); /* gcc may move stores beyond the loading of a tile */
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    add_tiles(linear->weight + row * inputs, inputs, x, inputs * LANES, two, ahead);
    if (rank && linear->b) add_tiles(linear->b + row * rank, rank, low, rank * LANES, two, 0);
    _tile_stored(0, y, 64);
    _tile_stored(1, y + 16 * LANES, 64);
    if (two) {
        _tile_stored(2, y + 32 * LANES, 64);
        _tile_stored(3, y + 48 * LANES, 64);
    }
    __asm__ volatile("" ::: "memory");
}

static inline void multiply_rows_tiles(const bf16 *rows, num stride, num ahead, num inputs, const bf16 *x, float *y) {
    __asm__ volatile("" ::: "memory");
    _tile_zero(0);
    _tile_zero(1);
    for (num at = 0; at < inputs; at += 32, rows += ahead) {
        _tile_loadd(6, x + at * LANES, 64);
        _tile_loadd(4, rows, stride * sizeof(bf16));
        _tile_dpbf16ps(0, 4, 6);
        _tile_loadd(5, rows + 16 * stride, stride * sizeof(bf16));
        _tile_dpbf16ps(1, 5, 6);
    }
    _tile_stored(0, y, 64);
    _tile_stored(1, y + 16 * LANES, 64);
    __asm__ volatile("" ::: "memory");
}
#endif

/* y (blocks, 32, 16) = rows of a linear layer, `count` at a time; the counts are constants where it is called. */
INLINE void multiply_vectors(num count, num blocks, const Linear *linear, num first, num inputs, const bf16 *x, const bf16 *low,
                             num rank, int ahead, float *y) {
    for (num from = 0; from < ROWS; from += count) {
        const bf16 *weight = linear->weight + (first + from) * inputs;
        Sums sums;
        EACH(count, blocks) sums[row][column] = _mm512_setzero_ps();
        for (num at = 0; at < inputs; at += 32) {
            if (ahead)
                for (num i = ROWS; i < ROWS + count; i++) _mm_prefetch((const char *)(weight + i * inputs + at), _MM_HINT_T1);
            add_rows(count, blocks, weight + at, inputs, x + at * LANES, inputs * LANES, sums);
        }
        if (rank && linear->b)
            for (num at = 0; at < rank; at += 32)
                add_rows(count, blocks, linear->b + (first + from) * rank + at, rank, low + at * LANES, rank * LANES, sums);
        EACH(count, blocks) _mm512_store_ps(y + (column * ROWS + from + row) * LANES, sums[row][column]);
    }
}

/* y (one or two blocks, 32, 16) = rows of a linear layer from `row` on, its adapters included. */
static inline void multiply(const Linear *linear, num row, num inputs, const bf16 *x, const bf16 *low, num rank, int two,
                            int ahead, float *y) {
#ifdef HAS_TILES
    if (with_tiles) multiply_tiles(linear, row, inputs, x, low, rank, two, ahead, y);
    else
#endif
    if (two) multiply_vectors(8, 2, linear, row, inputs, x, low, rank, ahead, y);
    else multiply_vectors(16, 1, linear, row, inputs, x, low, rank, ahead, y);
    if (linear->bias)
        for (num i = 0; i < (two ? 2 : 1) * ROWS; i++)
            _mm512_store_ps(y + i * LANES, _mm512_add_ps(_mm512_load_ps(y + i * LANES), _mm512_set1_ps(one(linear->bias[row + i % ROWS]))));
}

/* y (32, 16) = 32 rows, `stride` numbers apart, times a block of lanes; the next 32 columns are `ahead` numbers on. */
static inline void multiply_rows(const bf16 *rows, num stride, num ahead, num inputs, const bf16 *x, float *y) {
#ifdef HAS_TILES
    if (with_tiles) {
        multiply_rows_tiles(rows, stride, ahead, inputs, x, y);
        return;
    }
#endif
    for (num from = 0; from < ROWS; from += 16) {
        Sums sums;
        EACH(16, 1) sums[row][column] = _mm512_setzero_ps();
        for (num at = 0; at < inputs; at += 32)
            add_rows(16, 1, rows + from * stride + at / 32 * ahead, stride, x + at * LANES, 0, sums);
        EACH(16, 1) _mm512_store_ps(y + (from + row) * LANES, sums[row][column]);
    }
}

/* Tokens of one answer that follow each other; their heads to one head of keys fit the lanes of a tile. */
typedef struct {
    num first, tokens;
} Part;

/* Units of work that no other waits for: how many threads took, and how many are finished. */
typedef struct { _Alignas(64) _Atomic num taken, finished; } Phase;

/* What a step works on, as one thread sees it; blocks are of 16 tokens. */
typedef struct {
    const Model *model;
    const Step *step;
    num blocks, parts;
    Part *part;
    Phase *phase; /* the one that this thread is in */
    int busy;     /* with a unit of it */
    float *x, *y;   /* (blocks, hidden, 16) and (blocks, heads + 2 key heads, width, 16) */
    bf16 *in, *act; /* pairs of (blocks, hidden or heads * width, 16) and (blocks, inner, 16) */
    bf16 *low;      /* pairs of (3, blocks, rank, 16) */
} Work;

/* The next of so many units for this thread, -1 when all are finished. Threads wait for work and never for each other: one that
 * the system holds back, because another program has its core, finds done what the rest did without it. */
static num take(Work *work, num units) {
    Phase *phase = work->phase;
    if (work->busy) atomic_fetch_add_explicit(&phase->finished, 1, memory_order_release);
    num unit = atomic_fetch_add_explicit(&phase->taken, 1, memory_order_relaxed);
    work->busy = unit < units;
    if (work->busy) return unit;
    for (num waited = 0; atomic_load_explicit(&phase->finished, memory_order_acquire) < units; waited++)
        if (waited < PAUSES) _mm_pause();
        else sched_yield();
    work->phase++;
    return -1;
}

/* Each function from here on is entered by all threads and left when its units are finished. */
static void normalise(Work *work, const float *x, num blocks, const bf16 *weight, num hidden, float eps, bf16 *out) {
    for (num block; (block = take(work, blocks)) >= 0;) {
        const float *from = x + block * hidden * LANES;
        bf16 *to = out + block * hidden * LANES;
        __m512 squares = _mm512_setzero_ps();
        for (num i = 0; i < hidden; i++) {
            __m512 v = _mm512_load_ps(from + i * LANES);
            squares = _mm512_fmadd_ps(v, v, squares);
        }
        __m512 mean = _mm512_div_ps(squares, _mm512_set1_ps((float)hidden));
        __m512 r = _mm512_div_ps(_mm512_set1_ps(1.0f), _mm512_sqrt_ps(_mm512_add_ps(mean, _mm512_set1_ps(eps))));
        for (num i = 0; i < hidden; i += 2) {
            __m512 even = _mm512_mul_ps(_mm512_mul_ps(_mm512_load_ps(from + i * LANES), r), _mm512_set1_ps(one(weight[i])));
            __m512 odd = _mm512_mul_ps(_mm512_mul_ps(_mm512_load_ps(from + (i + 1) * LANES), r), _mm512_set1_ps(one(weight[i + 1])));
            _mm512_store_si512(to + i * LANES, pair(even, odd));
        }
    }
}

/* low = x A^T, zero where a factor belongs to another token's adapter. */
static void find_low(Work *work, const Linear *linears, num count, num inputs, const bf16 *x) {
    num rank = work->step->rank, tokens = work->blocks * LANES;
    if (!rank) return;
    for (num unit; (unit = take(work, count * (rank / ROWS))) >= 0;) {
        num which = unit / (rank / ROWS), row = unit % (rank / ROWS) * ROWS;
        if (!linears[which].a) continue;
        Linear rows = {.weight = linears[which].a};
        float y[2 * ROWS * LANES] __attribute__((aligned(64)));
        for (num block = 0; block < work->blocks; block += 2) {
            int two = block + 1 < work->blocks;
            multiply(&rows, row, inputs, x + block * inputs * LANES, 0, 0, two, 0, y);
            for (num half = 0; half <= two; half++) {
                const int32_t *own = work->step->own + (block + half) * LANES;
                __m512i first = _mm512_loadu_si512(own), end = _mm512_loadu_si512(own + tokens);
                bf16 *to = work->low + ((which * work->blocks + block + half) * rank + row) * LANES;
                for (num i = 0; i < ROWS; i += 2) {
                    __m512 both[2];
                    for (num odd = 0; odd < 2; odd++) {
                        __m512i at = _mm512_set1_epi32((int)(row + i + odd));
                        __mmask16 mine = _mm512_cmpge_epi32_mask(at, first) & _mm512_cmplt_epi32_mask(at, end);
                        both[odd] = _mm512_maskz_loadu_ps(mine, y + (half * ROWS + i + odd) * LANES);
                    }
                    _mm512_store_si512(to + i * LANES, pair(both[0], both[1]));
                }
            }
        }
    }
}

static inline const bf16 *low_of(const Work *work, num which, num block) {
    return work->low + (which * work->blocks + block) * work->step->rank * LANES;
}

/* y = queries, keys and values */
static void find_heads(Work *work, const Block *at) {
    const Model *model = work->model;
    num first = at->inputs[0].outputs, second = at->inputs[1].outputs, all = first + 2 * second;
    find_low(work, at->inputs, 3, model->hidden, work->in);
    for (num unit; (unit = take(work, all / ROWS)) >= 0;) {
        num row = unit * ROWS, which = row < first ? 0 : row < first + second ? 1 : 2;
        num inside = which == 0 ? row : which == 1 ? row - first : row - first - second;
        for (num block = 0; block < work->blocks; block += 2) {
            int two = block + 1 < work->blocks;
            float y[2 * ROWS * LANES] __attribute__((aligned(64)));
            multiply(at->inputs + which, inside, model->hidden, work->in + block * model->hidden * LANES,
                     low_of(work, which, block), work->step->rank, two, block == 0, y);
            for (num half = 0; half <= two; half++)
                memcpy(work->y + ((block + half) * all + row) * LANES, y + half * ROWS * LANES, ROWS * LANES * sizeof(float));
        }
    }
}

/* A head of one token out of y, normalised and turned. */
static inline void take_head(const Work *work, num token, num row, const bf16 *norm, float *head) {
    const Model *model = work->model;
    num width = model->width, half = width / 2, all = (model->heads + 2 * model->key_heads) * width;
    const float *from = work->y + (token / LANES * all + row) * LANES + token % LANES;
    const float *cos = work->step->cos + token * width, *sin = work->step->sin + token * width;
    float taken[WIDTH], squares = 0;
    for (num i = 0; i < width; i++) taken[i] = from[i * LANES];
    if (norm) {
        for (num i = 0; i < width; i++) squares += taken[i] * taken[i];
        float r = 1.0f / sqrtf(squares / width + model->eps);
        for (num i = 0; i < width; i++) taken[i] *= r * one(norm[i]);
    }
    for (num i = 0; i < half; i++) {
        head[i] = taken[i] * cos[i] - taken[half + i] * sin[i];
        head[half + i] = taken[half + i] * cos[half + i] + taken[i] * sin[half + i];
    }
}

static inline bf16 *cache_of(const Work *work, num layer, num values, num head, num token) {
    const Model *model = work->model;
    return work->step->caches[token] +
           ((layer * 2 + values) * model->key_heads + head) * work->step->rooms[token] * model->width;
}

/* Put the step's keys and values into the caches: a key is a row, values lie as (room / 32, width, 32). */
static void keep(Work *work, const Block *at, num layer) {
    const Model *model = work->model;
    const Step *step = work->step;
    num width = model->width, all = (model->heads + 2 * model->key_heads) * width;
    for (num token; (token = take(work, step->tokens)) >= 0;)
        for (num head = 0; head < model->key_heads; head++) {
            num place = step->places[token], inside = place % PLACES;
            bf16 *key = cache_of(work, layer, 0, head, token) + place * width;
            bf16 *value = cache_of(work, layer, 1, head, token) + (place - inside) * width;
            const float *from = work->y + (token / LANES * all + (model->heads + model->key_heads + head) * width) * LANES + token % LANES;
            int last = token + 1 == step->tokens || step->caches[token + 1] != step->caches[token];
            float turned[WIDTH];
            take_head(work, token, (model->heads + head) * width, at->key_norm, turned);
            for (num i = 0; i < width; i++) {
                key[i] = rounded(turned[i]);
                value[i * PLACES + inside] = rounded(from[i * LANES]);
                if (last) memset(value + i * PLACES + inside + 1, 0, (PLACES - 1 - inside) * sizeof(bf16)); /* 0 times what lay there may be no number */
            }
        }
}

/* Attention of tokens of one answer, each over the answer up to itself, in pieces of keys (Dao et al. 2022, arXiv 2205.14135).
 * A lane is a token and one of its heads. Weights are rounded to bfloat16 for their product with the values, not for their sum. */
static void attend(Work *work, const Block *at, num layer) {
    const Model *model = work->model;
    num width = model->width, groups = model->heads / model->key_heads, outputs = model->heads * width;
    __m512 scale = _mm512_set1_ps(model->scale * LOG2_E);
    for (num unit; (unit = take(work, work->parts * model->key_heads)) >= 0;) {
        num head = unit % model->key_heads;
        Part part = work->part[unit / model->key_heads];
        num least = work->step->places[part.first] + 1, end = (least + part.tokens - 1 + PLACES - 1) / PLACES * PLACES;
        const bf16 *keys = cache_of(work, layer, 0, head, part.first), *values = cache_of(work, layer, 1, head, part.first);
        float scores[KEYS][LANES] __attribute__((aligned(64))), sums[WIDTH][LANES] __attribute__((aligned(64)));
        bf16 queries[WIDTH / 2][LANES][2] __attribute__((aligned(64))), weights[KEYS / 2][LANES][2] __attribute__((aligned(64)));
        float added[PLACES][LANES] __attribute__((aligned(64)));
        int32_t seen[LANES] __attribute__((aligned(64))) = {0};
        memset(queries, 0, width * sizeof(queries[0]) / 2);
        memset(sums, 0, width * sizeof(sums[0]));
        for (num lane = 0; lane < part.tokens * groups; lane++) {
            float turned[WIDTH];
            take_head(work, part.first + lane / groups, (head * groups + lane % groups) * width, at->query_norm, turned);
            for (num i = 0; i < width; i++) queries[i / 2][lane][i & 1] = rounded(turned[i]);
            seen[lane] = (int32_t)(least + lane / groups);
        }
        __m512 most = _mm512_set1_ps(NOTHING), total = _mm512_setzero_ps();
        for (num from = 0; from < end; from += KEYS) {
            num count = end - from < KEYS ? end - from : KEYS;
            for (num key = 0; key < count; key += PLACES)
                multiply_rows(keys + (from + key) * width, width, 32, width, queries[0][0], scores[key]);
            __m512 top = most, sum = _mm512_setzero_ps();
            for (num key = 0; key < count; key++) {
                __m512 s = _mm512_load_ps(scores[key]);
                if (from + key >= least) {
                    __mmask16 later = _mm512_cmple_epi32_mask(_mm512_load_si512(seen), _mm512_set1_epi32((int32_t)(from + key)));
                    s = _mm512_mask_mov_ps(s, later, _mm512_set1_ps(NOTHING));
                    _mm512_store_ps(scores[key], s);
                }
                top = _mm512_max_ps(top, s);
            }
            __m512 less = _mm512_mul_ps(top, scale), fade = power_of_two(_mm512_mul_ps(_mm512_sub_ps(most, top), scale));
            for (num key = 0; key < count; key += 2) {
                __m512 even = power_of_two(_mm512_fmsub_ps(_mm512_load_ps(scores[key]), scale, less));
                __m512 odd = power_of_two(_mm512_fmsub_ps(_mm512_load_ps(scores[key + 1]), scale, less));
                sum = _mm512_add_ps(sum, _mm512_add_ps(even, odd));
                _mm512_store_si512(weights[key / 2], pair(even, odd));
            }
            total = _mm512_fmadd_ps(total, fade, sum);
            most = top;
            for (num column = 0; column < width; column += PLACES) {
                multiply_rows(values + from * width + column * PLACES, PLACES, PLACES * width, count, weights[0][0], added[0]);
                for (num i = 0; i < PLACES; i++)
                    _mm512_store_ps(sums[column + i], _mm512_fmadd_ps(_mm512_load_ps(sums[column + i]), fade, _mm512_load_ps(added[i])));
            }
        }
        for (num i = 0; i < width; i++) _mm512_store_ps(sums[i], _mm512_div_ps(_mm512_load_ps(sums[i]), total));
        for (num lane = 0; lane < part.tokens * groups; lane++) {
            num token = part.first + lane / groups;
            bf16 *to = work->in + token / LANES * outputs * LANES + token % LANES * 2;
            for (num i = 0; i < width; i++) {
                num row = (head * groups + lane % groups) * width + i;
                to[(row & ~(num)1) * LANES + (row & 1)] = rounded(sums[i][lane]);
            }
        }
    }
}

/* x += linear(in) */
static void add_to_stream(Work *work, const Linear *linear, num inputs, const bf16 *in) {
    num hidden = work->model->hidden;
    find_low(work, linear, 1, inputs, in);
    for (num unit; (unit = take(work, hidden / ROWS)) >= 0;)
        for (num row = unit * ROWS, block = 0; block < work->blocks; block += 2) {
            int two = block + 1 < work->blocks;
            float y[2 * ROWS * LANES] __attribute__((aligned(64)));
            multiply(linear, row, inputs, in + block * inputs * LANES, low_of(work, 0, block), work->step->rank, two, block == 0, y);
            for (num half = 0; half <= two; half++) {
                float *to = work->x + ((block + half) * hidden + row) * LANES;
                for (num i = 0; i < ROWS * LANES; i += LANES)
                    _mm512_store_ps(to + i, _mm512_add_ps(_mm512_load_ps(to + i), _mm512_load_ps(y + half * ROWS * LANES + i)));
            }
        }
}

/* act = silu(gate(in)) * up(in) */
static void activate(Work *work, const Block *at) {
    num inner = work->model->inner, hidden = work->model->hidden;
    find_low(work, at->up, 2, hidden, work->in);
    for (num unit; (unit = take(work, inner / ROWS)) >= 0;)
        for (num row = unit * ROWS, block = 0; block < work->blocks; block += 2) {
            int two = block + 1 < work->blocks;
            float y[2][2 * ROWS * LANES] __attribute__((aligned(64)));
            for (num which = 0; which < 2; which++)
                multiply(at->up + which, row, hidden, work->in + block * hidden * LANES, low_of(work, which, block),
                         work->step->rank, two, block == 0, y[which]);
            for (num half = 0; half <= two; half++) {
                bf16 *to = work->act + ((block + half) * inner + row) * LANES;
                for (num i = 0; i < ROWS; i += 2) {
                    __m512 both[2];
                    for (num odd = 0; odd < 2; odd++) {
                        num place = (half * ROWS + i + odd) * LANES;
                        __m512 gate = _mm512_load_ps(y[0] + place);
                        __m512 power = power_of_two(_mm512_mul_ps(gate, _mm512_set1_ps(-LOG2_E)));
                        __m512 swish = _mm512_div_ps(gate, _mm512_add_ps(_mm512_set1_ps(1.0f), power));
                        both[odd] = _mm512_mul_ps(swish, _mm512_load_ps(y[1] + place));
                    }
                    _mm512_store_si512(to + i * LANES, pair(both[0], both[1]));
                }
            }
        }
}

/* x = rows of the embeddings */
static void embed(Work *work) {
    num hidden = work->model->hidden;
    for (num token; (token = take(work, work->blocks * LANES)) >= 0;) {
        float *to = work->x + token / LANES * hidden * LANES + token % LANES;
        const bf16 *from = token < work->step->tokens ? work->model->embeddings + work->step->ids[token] * hidden : 0;
        for (num i = 0; i < hidden; i++) to[i * LANES] = from ? one(from[i]) : 0.0f;
    }
}

/* The scores of the tokens that are asked for; their stream is moved together first, into y. */
static void find_scores(Work *work) {
    const Model *model = work->model;
    num hidden = model->hidden, wanted = work->step->wanted, blocks = (wanted + LANES - 1) / LANES;
    for (num place; (place = take(work, blocks * LANES)) >= 0;) {
        num token = place < wanted ? work->step->asked[place] : 0;
        float *to = work->y + place / LANES * hidden * LANES + place % LANES;
        const float *from = work->x + token / LANES * hidden * LANES + token % LANES;
        for (num i = 0; i < hidden; i++) to[i * LANES] = from[i * LANES];
    }
    normalise(work, work->y, blocks, model->norm, hidden, model->eps, work->in);
    Linear head = {.weight = model->head};
    for (num unit; (unit = take(work, (model->words + ROWS - 1) / ROWS)) >= 0;) {
        num row = unit * ROWS + ROWS <= model->words ? unit * ROWS : model->words - ROWS; /* the last may overlap */
        for (num block = 0; block < blocks; block += 2) {
            int two = block + 1 < blocks;
            float y[2 * ROWS * LANES] __attribute__((aligned(64)));
            multiply(&head, row, hidden, work->in + block * hidden * LANES, 0, 0, two, block == 0, y);
            for (num lane = 0; lane < 2 * LANES && block * LANES + lane < wanted; lane++) {
                float *to = work->step->scores + (block * LANES + lane) * model->words + row;
                for (num i = 0; i < ROWS; i++) to[i] = y[(lane / LANES * ROWS + i) * LANES + lane % LANES];
            }
        }
    }
}

static char *room;
static size_t room_bytes;

static void *cut(char **from, size_t bytes) {
    void *at = *from;
    *from += (bytes + 63) / 64 * 64;
    return at;
}

/* Take a step; 0 where memory ran out. Called by one thread at a time. */
int answering_step(const Model *model, const Step *step) {
    num blocks = (step->tokens + LANES - 1) / LANES, lanes = blocks * LANES;
    num all = (model->heads + 2 * model->key_heads) * model->width, outputs = model->heads * model->width;
    num in = outputs > model->hidden ? outputs : model->hidden, out = all > model->hidden ? all : model->hidden;
    num phases = model->blocks * PHASES + MORE;
    size_t bytes = lanes * (sizeof(float) * (model->hidden + out) + sizeof(bf16) * (in + model->inner + 3 * step->rank) + sizeof(Part));
    bytes += phases * sizeof(Phase) + 7 * 64;
    if (bytes > room_bytes) {
        free(room);
        room_bytes = 0;
        room = aligned_alloc(64, (bytes + 4095) / 4096 * 4096);
        if (!room) return 0;
        room_bytes = bytes;
        memset(room, 0, bytes);
    }
    char *from = room;
    Work work = {.model = model, .step = step, .blocks = blocks};
    work.x = cut(&from, lanes * model->hidden * sizeof(float));
    work.y = cut(&from, lanes * out * sizeof(float));
    work.in = cut(&from, lanes * in * sizeof(bf16));
    work.act = cut(&from, lanes * model->inner * sizeof(bf16));
    work.low = cut(&from, 3 * lanes * step->rank * sizeof(bf16));
    work.part = cut(&from, lanes * sizeof(Part));
    work.phase = cut(&from, phases * sizeof(Phase));
    memset(work.phase, 0, phases * sizeof(Phase));
    for (num token = 0, most = LANES * model->key_heads / model->heads; token < step->tokens; token++) {
        Part *part = work.part + work.parts - 1;
        if (token && part->tokens < most && step->caches[token] == step->caches[token - 1]) part->tokens++;
        else work.part[work.parts++] = (Part){token, 1};
    }
#pragma omp parallel num_threads(step->threads) firstprivate(work)
    {
        configure_tiles();
        embed(&work);
        for (num layer = 0; layer < model->blocks; layer++) {
            const Block *at = model->block + layer;
            normalise(&work, work.x, blocks, at->norm, model->hidden, model->eps, work.in);
            find_heads(&work, at);
            keep(&work, at, layer);
            attend(&work, at, layer);
            add_to_stream(&work, &at->out, outputs, work.in);
            normalise(&work, work.x, blocks, at->mlp_norm, model->hidden, model->eps, work.in);
            activate(&work, at);
            add_to_stream(&work, &at->down, model->inner, work.act);
        }
        find_scores(&work);
        release_tiles();
    }
    return 1;
}

#else
int answering_step(const Model *model, const Step *step) { return !model || !step; }
#endif
