/* The kernels for arrays of TYPE; included once for each type by kernels.c. */

#define ROWS _Pragma("omp parallel for schedule(static)")
#define LANES _Pragma("omp simd")
#define SUM(into) SUM_(omp simd reduction(+ : into))
#define SUM_(text) _Pragma(#text)
#define MAXIMUM(into) SUM_(omp simd reduction(max : into))

/* out = weight * x * rstd, rstd = (mean(x^2) + eps)^-1/2 */
void NAMED(rms_norm)(num rows, num width, const TYPE *x, const TYPE *weight, float eps, TYPE *out, num out_stride, float *rstd) {
    ROWS for (num row = 0; row < rows; row++) {
        const TYPE *from = x + row * width;
        TYPE *to = out + row * out_stride;
        float squares = 0;
        SUM(squares) for (num i = 0; i < width; i++) squares += LOAD(from[i]) * LOAD(from[i]);
        float r = 1.0f / sqrtf(squares / width + eps);
        rstd[row] = r;
        LANES for (num i = 0; i < width; i++) to[i] = STORE(LOAD(from[i]) * r * LOAD(weight[i]));
    }
}

/* out = residual + rstd * w g - x * rstd^3 / width * sum(w g x) */
void NAMED(rms_norm_backward)(num rows, num width, const TYPE *grad, num grad_stride, const TYPE *x, const TYPE *weight,
                              const float *rstd, const TYPE *residual, TYPE *out) {
    ROWS for (num row = 0; row < rows; row++) {
        const TYPE *g = grad + row * grad_stride, *from = x + row * width, *beside = residual + row * width;
        TYPE *to = out + row * width;
        float along = 0, r = rstd[row];
        SUM(along) for (num i = 0; i < width; i++) along += LOAD(g[i]) * LOAD(weight[i]) * LOAD(from[i]);
        float pull = along * r * r * r / width;
        LANES for (num i = 0; i < width; i++)
            to[i] = STORE(LOAD(beside[i]) + LOAD(g[i]) * LOAD(weight[i]) * r - LOAD(from[i]) * pull);
    }
}

/* out = weight * (x - mean) * rstd + bias; moments holds mean and rstd of each row */
void NAMED(layer_norm)(num rows, num width, const TYPE *x, const TYPE *weight, const TYPE *bias, float eps, TYPE *out,
                       num out_stride, float *moments) {
    ROWS for (num row = 0; row < rows; row++) {
        const TYPE *from = x + row * width;
        TYPE *to = out + row * out_stride;
        float sum = 0, squares = 0;
        SUM(sum) for (num i = 0; i < width; i++) sum += LOAD(from[i]);
        float mean = sum / width;
        SUM(squares) for (num i = 0; i < width; i++) squares += (LOAD(from[i]) - mean) * (LOAD(from[i]) - mean);
        float r = 1.0f / sqrtf(squares / width + eps);
        moments[2 * row] = mean;
        moments[2 * row + 1] = r;
        LANES for (num i = 0; i < width; i++) to[i] = STORE((LOAD(from[i]) - mean) * r * LOAD(weight[i]) + LOAD(bias[i]));
    }
}

/* out = residual + rstd * (w g - mean(w g) - x' * mean(w g x')) with x' = (x - mean) * rstd */
void NAMED(layer_norm_backward)(num rows, num width, const TYPE *grad, num grad_stride, const TYPE *x, const TYPE *weight,
                                const float *moments, const TYPE *residual, TYPE *out) {
    ROWS for (num row = 0; row < rows; row++) {
        const TYPE *g = grad + row * grad_stride, *from = x + row * width, *beside = residual + row * width;
        TYPE *to = out + row * width;
        float mean = moments[2 * row], r = moments[2 * row + 1], level = 0, along = 0;
        SUM_(omp simd reduction(+ : level, along)) for (num i = 0; i < width; i++) {
            float pull = LOAD(g[i]) * LOAD(weight[i]);
            level += pull;
            along += pull * (LOAD(from[i]) - mean) * r;
        }
        level /= width;
        along /= width;
        LANES for (num i = 0; i < width; i++)
            to[i] = STORE(LOAD(beside[i]) + r * (LOAD(g[i]) * LOAD(weight[i]) - level - (LOAD(from[i]) - mean) * r * along));
    }
}

/* Heads out of the columns of y, each token at its place in rows: y (tokens, y_stride) -> out (rows, heads, length, width).
 * `sources` names the token of each place, NULL = the place itself. With `cos` and `sin` (tokens or length, width) the
 * heads are rotated by the position, without they are copied. */
void NAMED(lay_out)(num rows, num length, num heads, num width, const TYPE *y, num y_stride, const int64_t *sources,
                    const TYPE *cos, const TYPE *sin, TYPE *out) {
    num half = width / 2;
    _Pragma("omp parallel for schedule(static) collapse(2)")
    for (num row = 0; row < rows; row++)
        for (num head = 0; head < heads; head++)
            for (num place = 0; place < length; place++) {
                num token = sources ? sources[row * length + place] : row * length + place;
                const TYPE *from = y + token * y_stride + head * width;
                TYPE *to = out + ((row * heads + head) * length + place) * width;
                if (!cos) {
                    memcpy(to, from, width * sizeof(TYPE));
                    continue;
                }
                num turn = (sources ? sources[place] : place) * width; /* the first row is the longest */
                const TYPE *c = cos + turn, *s = sin + turn;
                LANES for (num i = 0; i < half; i++) {
                    float one = LOAD(from[i]), other = LOAD(from[half + i]);
                    to[i] = STORE(one * LOAD(c[i]) - other * LOAD(s[i]));
                    to[half + i] = STORE(other * LOAD(c[half + i]) + one * LOAD(s[half + i]));
                }
            }
}

/* The gradient of lay_out: grad (rows, heads, length, width) -> out (tokens, out_stride), summed over the rows for the
 * first `shared` tokens, zero from `used` on. */
void NAMED(lay_out_backward)(num rows, num length, num heads, num width, const TYPE *grad, num tokens, num used, num shared,
                             const int64_t *places, const TYPE *cos, const TYPE *sin, TYPE *out, num out_stride) {
    num half = width / 2;
    ROWS for (num token = 0; token < tokens; token++)
        for (num head = 0; head < heads; head++) {
            TYPE *to = out + token * out_stride + head * width;
            if (token >= used) {
                memset(to, 0, width * sizeof(TYPE));
                continue;
            }
            num at = places ? places[token] : token;
            num copies = token < shared ? rows : 1;
            const TYPE *from = grad + ((at / length * heads + head) * length + at % length) * width;
            float sum[width];
            LANES for (num i = 0; i < width; i++) sum[i] = LOAD(from[i]);
            for (num row = 1; row < copies; row++) {
                const TYPE *other = from + row * heads * length * width;
                LANES for (num i = 0; i < width; i++) sum[i] += LOAD(other[i]);
            }
            if (!cos) {
                LANES for (num i = 0; i < width; i++) to[i] = STORE(sum[i]);
                continue;
            }
            num turn = (places ? token : at % length) * width;
            const TYPE *c = cos + turn, *s = sin + turn;
            LANES for (num i = 0; i < half; i++) {
                float one = sum[i], other = sum[half + i];
                to[i] = STORE(one * LOAD(c[i]) + other * LOAD(s[half + i]));
                to[half + i] = STORE(other * LOAD(c[half + i]) - one * LOAD(s[i]));
            }
        }
}

/* softmax(scale * scores) in place over what each query may see: scores (batches, groups * length, length) */
void NAMED(causal_softmax)(num batches, num groups, num length, float scale, TYPE *scores) {
    ROWS for (num row = 0; row < batches * groups * length; row++) {
        TYPE *at = scores + row * length;
        num seen = row % length + 1;
        float most = -INFINITY, sum = 0, kept[length];
        MAXIMUM(most) for (num i = 0; i < seen; i++) most = LOAD(at[i]) > most ? LOAD(at[i]) : most;
        SUM(sum) for (num i = 0; i < seen; i++) {
            float value = exp_of((LOAD(at[i]) - most) * scale);
            kept[i] = value;
            sum += value;
        }
        float part = most != most ? most : 1.0f / sum;
        LANES for (num i = 0; i < seen; i++) at[i] = STORE(kept[i] * part);
        memset(at + seen, 0, (length - seen) * sizeof(TYPE));
    }
}

/* grad = scale * weights * (grad - sum(weights * grad)) in place */
void NAMED(causal_softmax_backward)(num batches, num groups, num length, float scale, const TYPE *weights, TYPE *grad) {
    ROWS for (num row = 0; row < batches * groups * length; row++) {
        const TYPE *w = weights + row * length;
        TYPE *g = grad + row * length;
        num seen = row % length + 1;
        float sum = 0;
        SUM(sum) for (num i = 0; i < seen; i++) sum += LOAD(w[i]) * LOAD(g[i]);
        LANES for (num i = 0; i < seen; i++) g[i] = STORE(scale * LOAD(w[i]) * (LOAD(g[i]) - sum));
        memset(g + seen, 0, (length - seen) * sizeof(TYPE));
    }
}

/* Heads back to tokens: x (rows, heads, length, width) -> out (tokens, heads * width), zero from `used` on */
void NAMED(gather)(num rows, num length, num heads, num width, const TYPE *x, num tokens, num used, const int64_t *places,
                   TYPE *out) {
    (void)rows;
    ROWS for (num token = 0; token < tokens; token++) {
        TYPE *to = out + token * heads * width;
        if (token >= used) {
            memset(to, 0, heads * width * sizeof(TYPE));
            continue;
        }
        num at = places ? places[token] : token;
        for (num head = 0; head < heads; head++)
            memcpy(to + head * width, x + ((at / length * heads + head) * length + at % length) * width, width * sizeof(TYPE));
    }
}

/* The gradient of gather: grad (tokens, heads * width) -> out (rows, heads, length, width), zero where no token is */
void NAMED(gather_backward)(num rows, num length, num heads, num width, const TYPE *grad, num used, const int64_t *places,
                            TYPE *out) {
    if (places) memset(out, 0, rows * heads * length * width * sizeof(TYPE));
    ROWS for (num token = 0; token < used; token++) {
        num at = places ? places[token] : token;
        for (num head = 0; head < heads; head++)
            memcpy(out + ((at / length * heads + head) * length + at % length) * width, grad + (token * heads + head) * width,
                   width * sizeof(TYPE));
    }
}

/* out = silu(gate) * up; y (rows, 2 width) holds both */
void NAMED(gated)(num rows, num width, const TYPE *y, TYPE *out) {
    ROWS for (num row = 0; row < rows; row++) {
        const TYPE *gate = y + row * 2 * width, *up = gate + width;
        TYPE *to = out + row * width;
        LANES for (num i = 0; i < width; i++) {
            float g = LOAD(gate[i]);
            to[i] = STORE(g / (1.0f + exp_of(-g)) * LOAD(up[i]));
        }
    }
}

/* out (rows, 2 width): the gradients of gate and up */
void NAMED(gated_backward)(num rows, num width, const TYPE *grad, num grad_stride, const TYPE *y, TYPE *out) {
    ROWS for (num row = 0; row < rows; row++) {
        const TYPE *from = grad + row * grad_stride, *gate = y + row * 2 * width, *up = gate + width;
        TYPE *to = out + row * 2 * width;
        LANES for (num i = 0; i < width; i++) {
            float g = LOAD(gate[i]), s = 1.0f / (1.0f + exp_of(-g)), d = LOAD(from[i]);
            to[i] = STORE(d * LOAD(up[i]) * s * (1.0f + g * (1.0f - s)));
            to[width + i] = STORE(d * g * s);
        }
    }
}

/* tanh's approximation of the Gaussian unit: u = 0.797885 (x + 0.044715 x^3), x * sigmoid(2 u) */
void NAMED(gelu)(num rows, num width, const TYPE *x, TYPE *out) {
    ROWS for (num row = 0; row < rows; row++) {
        LANES for (num i = row * width; i < (row + 1) * width; i++) {
            float v = LOAD(x[i]), u = 0.7978845608f * (v + 0.044715f * v * v * v);
            out[i] = STORE(v / (1.0f + exp_of(-2.0f * u)));
        }
    }
}

void NAMED(gelu_backward)(num rows, num width, const TYPE *grad, num grad_stride, const TYPE *x, TYPE *out) {
    ROWS for (num row = 0; row < rows; row++) {
        const TYPE *from = grad + row * grad_stride, *at = x + row * width;
        TYPE *to = out + row * width;
        LANES for (num i = 0; i < width; i++) {
            float v = LOAD(at[i]), u = 0.7978845608f * (v + 0.044715f * v * v * v);
            float s = 1.0f / (1.0f + exp_of(-2.0f * u)), slope = 0.7978845608f * (1.0f + 0.134145f * v * v);
            to[i] = STORE(LOAD(from[i]) * s * (1.0f + 2.0f * v * (1.0f - s) * slope));
        }
    }
}

/* loss = log(sum(e^logits)) - logits[target] of each row; with `learn` the logits become softmax - one-hot */
void NAMED(cross_entropy)(num rows, num words, TYPE *logits, const int64_t *targets, float *losses, int learn) {
    ROWS for (num row = 0; row < rows; row++) {
        TYPE *at = logits + row * words;
        float most = -INFINITY, sum = 0;
        MAXIMUM(most) for (num i = 0; i < words; i++) most = LOAD(at[i]) > most ? LOAD(at[i]) : most;
        SUM(sum) for (num i = 0; i < words; i++) sum += exp_of(LOAD(at[i]) - most);
        float target = LOAD(at[targets[row]]);
        losses[row] = logf(sum) - (target - most);
        if (!learn) continue;
        float part = 1.0f / sum;
        LANES for (num i = 0; i < words; i++) at[i] = STORE(exp_of(LOAD(at[i]) - most) * part);
        at[targets[row]] = STORE(exp_of(target - most) * part - 1.0f);
    }
}

#undef ROWS
#undef LANES
#undef SUM
#undef SUM_
#undef MAXIMUM
