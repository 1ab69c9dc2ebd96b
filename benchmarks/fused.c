// Inverted residuals in INT8, fused row by row: a prototype that is measured and not shipped.
//
// An engine runs a block's three convolutions one after the other, and the expanded map, six times as wide as the block's
// input, goes to memory and back. Here three rows of it are kept, which fit the first cache: as soon as they are there,
// a row of the depthwise convolution is made of them, and of that row the block's output.
//
// All maps are uint8 with channels last, padded to whole vectors; weights are int8 of 7 bits. Sums are in int32, and are
// scaled in float32 and rounded to even, as ONNX Runtime does it. AVX-512 with VNNI and VBMI, or AVX2 with VNNI.

#include <immintrin.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline))

enum { PIXELS = 4, MOST_GROUPS = 64, THREADS = 2 };  // pixels whose results are packed together; groups of four inputs

#ifdef __AVX512F__
typedef __m512i Ints;
typedef __m512 Floats;
enum { LANES = 16 };
INLINE Ints load(const void *at) { return _mm512_loadu_si512(at); }
INLINE void keep(void *at, Ints values) { _mm512_storeu_si512(at, values); }
INLINE Floats scales(const float *at) { return _mm512_loadu_ps(at); }
INLINE Ints repeated(int32_t four) { return _mm512_set1_epi32(four); }
INLINE Floats all(float value) { return _mm512_set1_ps(value); }
INLINE Floats to_floats(Ints values) { return _mm512_cvtepi32_ps(values); }
INLINE Ints to_ints(Floats values) { return _mm512_cvtps_epi32(values); }
INLINE Floats times_added(Floats a, Floats b, Floats c) { return _mm512_fmadd_ps(a, b, c); }
INLINE Floats widened(const uint8_t *at) { return to_floats(_mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)at))); }

// The values of three rows, so that the four bytes of a lane are one channel's, the last one zero.
INLINE Ints interleaved(const uint8_t *a, const uint8_t *b, const uint8_t *c) {
    Ints rows = _mm512_zextsi128_si512(_mm_loadu_si128((const __m128i *)a));
    rows = _mm512_inserti32x4(rows, _mm_loadu_si128((const __m128i *)b), 1);
    rows = _mm512_inserti32x4(rows, _mm_loadu_si128((const __m128i *)c), 2);
    const Ints first = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
    const Ints lanes = _mm512_add_epi32(_mm512_mullo_epi32(first, repeated(0x01010101)), repeated(0x30201000));
    return _mm512_permutexvar_epi8(lanes, rows);
}

// Sixteen channels of four pixels in 8 bits.
INLINE void store(const Ints v[PIXELS], uint8_t *out, size_t step) {
    Ints bytes = _mm512_packus_epi16(_mm512_packs_epi32(v[0], v[1]), _mm512_packs_epi32(v[2], v[3]));
    bytes = _mm512_permutexvar_epi32(_mm512_set_epi32(15, 11, 7, 3, 14, 10, 6, 2, 13, 9, 5, 1, 12, 8, 4, 0), bytes);
    _mm_storeu_si128((__m128i *)out, _mm512_castsi512_si128(bytes));
    _mm_storeu_si128((__m128i *)(out + step), _mm512_extracti32x4_epi32(bytes, 1));
    _mm_storeu_si128((__m128i *)(out + 2 * step), _mm512_extracti32x4_epi32(bytes, 2));
    _mm_storeu_si128((__m128i *)(out + 3 * step), _mm512_extracti32x4_epi32(bytes, 3));
}
#else
typedef __m256i Ints;
typedef __m256 Floats;
enum { LANES = 8 };
INLINE Ints load(const void *at) { return _mm256_loadu_si256((const Ints *)at); }
INLINE void keep(void *at, Ints values) { _mm256_storeu_si256((Ints *)at, values); }
INLINE Floats scales(const float *at) { return _mm256_loadu_ps(at); }
INLINE Ints repeated(int32_t four) { return _mm256_set1_epi32(four); }
INLINE Floats all(float value) { return _mm256_set1_ps(value); }
INLINE Floats to_floats(Ints values) { return _mm256_cvtepi32_ps(values); }
INLINE Ints to_ints(Floats values) { return _mm256_cvtps_epi32(values); }
INLINE Floats times_added(Floats a, Floats b, Floats c) { return _mm256_fmadd_ps(a, b, c); }
INLINE Floats widened(const uint8_t *at) { return to_floats(_mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)at))); }

INLINE Ints interleaved(const uint8_t *a, const uint8_t *b, const uint8_t *c) {
    __m128i two = _mm_unpacklo_epi8(_mm_loadl_epi64((const __m128i *)a), _mm_loadl_epi64((const __m128i *)b));
    __m128i third = _mm_unpacklo_epi8(_mm_loadl_epi64((const __m128i *)c), _mm_setzero_si128());
    return _mm256_set_m128i(_mm_unpackhi_epi16(two, third), _mm_unpacklo_epi16(two, third));
}

INLINE void store(const Ints v[PIXELS], uint8_t *out, size_t step) {
    Ints bytes = _mm256_packus_epi16(_mm256_packs_epi32(v[0], v[1]), _mm256_packs_epi32(v[2], v[3]));
    bytes = _mm256_permutevar8x32_epi32(bytes, _mm256_set_epi32(7, 3, 6, 2, 5, 1, 4, 0));
    __m128i low = _mm256_castsi256_si128(bytes), high = _mm256_extracti128_si256(bytes, 1);
    _mm_storel_epi64((__m128i *)out, low);
    _mm_storel_epi64((__m128i *)(out + step), _mm_unpackhi_epi64(low, low));
    _mm_storel_epi64((__m128i *)(out + 2 * step), high);
    _mm_storel_epi64((__m128i *)(out + 3 * step), _mm_unpackhi_epi64(high, high));
}
#endif

INLINE Ints rounded(Ints sum, Floats scale, Floats zero_point) {
    return to_ints(times_added(to_floats(sum), scale, zero_point));
}

// Adds four products of uint8 and int8 to each sum, in place: written with the intrinsic, GCC 12 copies the sums.
#ifdef __AVX512F__
#define DOT "vpdpbusd"
#else
#define DOT "%{vex%} vpdpbusd"
#endif
INLINE void dot(Ints *sum, Ints pixels, Ints weights) { __asm__(DOT " %2, %1, %0" : "+v"(*sum) : "v"(pixels), "v"(weights)); }

// A convolution. `groups`: groups of four inputs. `vectors`: vectors of outputs. The weights of a group are those of its
// four inputs for each output; of a depthwise one the groups are columns, and the four inputs three rows and a zero.
typedef struct {
    int32_t groups, vectors, zero_point;
    const int8_t *weights;
    const int32_t *bias;
    const float *scale;
} Layer;

// out = input * input_scale + made * made_scale + offset, all in 8 bits; none where it does not add its input.
typedef struct {
    float input_scale, made_scale, offset;
} Sum;

// Sizes are in pixels; `first_step` is that of the first convolution, where it reads the image and is 3x3.
typedef struct {
    int32_t height, width, channels, step, first_step, adds;
    Layer expand, depthwise, project;
    Sum sum;
} Block;

// `count` vectors of outputs from the `first` one on, of `pixels` pixels from `x` on.
INLINE void some_outputs(
    const Layer *layer, const uint8_t *const *from, size_t step, int x, uint8_t *out, int first, const int count,
    const int pixels
) {
    const size_t out_step = layer->vectors * LANES;
    Ints sums[3][2 * PIXELS];
    for (int v = 0; v < count; v++)
        for (int p = 0; p < pixels; p++) sums[v][p] = load(layer->bias + (first + v) * LANES);
    for (int g = 0; g < layer->groups; g++) {
        const int8_t *weights = layer->weights + (size_t)(g * layer->vectors + first) * 4 * LANES;
        const uint8_t *here = from[g] + x * step;
        Ints inputs[2 * PIXELS];
        for (int p = 0; p < pixels; p++) {
            int32_t four;
            memcpy(&four, here + p * step, 4);
            inputs[p] = repeated(four);
        }
        for (int v = 0; v < count; v++) {
            Ints own = load(weights + v * 4 * LANES);
            for (int p = 0; p < pixels; p++) dot(&sums[v][p], inputs[p], own);
        }
    }
    const Floats zero_point = all((float)layer->zero_point);
    for (int v = 0; v < count; v++) {
        Floats scale = scales(layer->scale + (first + v) * LANES);
        for (int p = 0; p < pixels; p++) sums[v][p] = rounded(sums[v][p], scale, zero_point);
        for (int p = 0; p < pixels; p += PIXELS)
            store(sums[v] + p, out + (x + p) * out_step + (first + v) * LANES, out_step);
    }
}

// A row of outputs. `from`: where each group of four inputs of the first pixel is; those of the next are `step` further.
// Enough sums are in hand at once that none waits for the one before.
static void convolve(const Layer *layer, const uint8_t *const *from, size_t step, int width, uint8_t *out) {
    const int left = layer->vectors % 3, threes = layer->vectors - left;
    for (int x = 0; x < width; x += PIXELS)
        for (int v = 0; v < threes; v += 3) some_outputs(layer, from, step, x, out, v, 3, PIXELS);
    if (!left) return;
    int x = 0;
    for (; x + 2 * PIXELS <= width; x += 2 * PIXELS) {
        if (left == 2) some_outputs(layer, from, step, x, out, threes, 2, 2 * PIXELS);
        else some_outputs(layer, from, step, x, out, threes, 1, 2 * PIXELS);
    }
    for (; x < width; x += PIXELS) {
        if (left == 2) some_outputs(layer, from, step, x, out, threes, 2, PIXELS);
        else some_outputs(layer, from, step, x, out, threes, 1, PIXELS);
    }
}

// A row of the depthwise convolution from three rows of `width` pixels.
static void depthwise(
    const Layer *layer, const uint8_t *const rows[3], int width, int step, uint8_t *columns, uint8_t *out
) {
    const size_t pixel = layer->vectors * LANES, size = 4 * LANES;
    const int out_width = width / step;
    memset(columns, 0, size);                            // left of the map
    memset(columns + (width + 1) * size, 0, size);       // right of it
    const Floats zero_point = all((float)layer->zero_point);
    for (int v = 0; v < layer->vectors; v++) {
        const size_t at = v * LANES;
        for (int x = 0; x < width; x++) {
            const size_t here = x * pixel + at;
            keep(columns + (x + 1) * size, interleaved(rows[0] + here, rows[1] + here, rows[2] + here));
        }
        Ints weights[3];
        for (int g = 0; g < 3; g++) weights[g] = load(layer->weights + (size_t)(g * layer->vectors + v) * size);
        const Ints bias = load(layer->bias + at);
        const Floats scale = scales(layer->scale + at);
        for (int x = 0; x < out_width; x += PIXELS) {
            Ints sums[PIXELS];
            for (int p = 0; p < PIXELS; p++) {
                const uint8_t *from = columns + (size_t)(x + p) * step * size;
                sums[p] = bias;
                for (int g = 0; g < 3; g++) dot(&sums[p], load(from + g * size), weights[g]);
                sums[p] = rounded(sums[p], scale, zero_point);
            }
            store(sums, out + x * pixel + at, pixel);
        }
    }
}

static void add(const Sum *sum, const uint8_t *input, uint8_t *made, size_t count) {
    const Floats input_scale = all(sum->input_scale), made_scale = all(sum->made_scale), offset = all(sum->offset);
    for (size_t i = 0; i < count; i += PIXELS * LANES) {
        Ints sums[PIXELS];
        for (int p = 0; p < PIXELS; p++) {
            Floats value = times_added(widened(input + i + p * LANES), input_scale, offset);
            sums[p] = to_ints(times_added(widened(made + i + p * LANES), made_scale, value));
        }
        store(sums, made + i, LANES);
    }
}

// Where each thread works; each has its own.
typedef struct {
    uint8_t *ring, *zeros, *columns, *row;
} Room;

static void expand(const Block *block, const uint8_t *map, int y, uint8_t *out) {
    const uint8_t *from[MOST_GROUPS];
    if (block->first_step) {  // three rows of the image, whose own padding is in it; 9 of 12 bytes of a row count
        const size_t row = (block->width * block->first_step + 1) * 3;
        for (int g = 0; g < 9; g++) from[g] = map + (y * block->first_step + g / 3) * row + g % 3 * 4;
        convolve(&block->expand, from, 3 * block->first_step, block->width, out);
    } else {
        for (int g = 0; g < block->expand.groups; g++) from[g] = map + (size_t)y * block->width * block->channels + 4 * g;
        convolve(&block->expand, from, block->channels, block->width, out);
    }
}

// The rows of a block's output from `begin` to `end`. `height` and `width` are those of the expanded map.
static void rows_of(const Block *block, const uint8_t *map, uint8_t *out, int begin, int end, const Room *room) {
    const size_t ring_row = (size_t)block->width * block->depthwise.vectors * LANES;
    const int out_width = block->width / block->step;
    const size_t out_row = (size_t)out_width * block->project.vectors * LANES;
    const uint8_t *from[MOST_GROUPS];
    for (int g = 0; g < block->project.groups; g++) from[g] = room->row + 4 * g;
    int ready = begin * block->step - 1;  // the next row to expand
    for (int y = begin; y < end; y++) {
        const uint8_t *rows[3];
        for (int r = 0; r < 3; r++) {
            const int at = y * block->step - 1 + r;
            uint8_t *own = room->ring + (at + 3) % 3 * ring_row;
            if (at >= 0 && at < block->height && at >= ready) expand(block, map, at, own);
            rows[r] = at < 0 || at >= block->height ? room->zeros : own;
        }
        ready = y * block->step + 2;
        depthwise(&block->depthwise, rows, block->width, block->step, room->columns, room->row);
        uint8_t *to = out + y * out_row;
        convolve(&block->project, from, block->depthwise.vectors * LANES, out_width, to);
        if (block->adds) add(&block->sum, map + y * out_row, to, out_row);
    }
}

typedef struct {
    const Block *blocks;
    int32_t count;
    uint8_t *const *maps;  // the image, and each block's output
    int32_t threads;
} Net;

static struct {
    Net net;
    Room rooms[THREADS];
    atomic_int begun, arrived[MOST_GROUPS], left;
    pthread_t helper;
} pool;

static void work(int number) {
    const Net *net = &pool.net;
    for (int b = 0; b < net->count; b++) {
        const Block *block = net->blocks + b;
        const int rows = block->height / block->step, share = (rows + net->threads - 1) / net->threads;
        const int begin = number * share, end = begin + share < rows ? begin + share : rows;
        rows_of(block, net->maps[b], net->maps[b + 1], begin, end, &pool.rooms[number]);
        if (net->threads > 1) {
            atomic_fetch_add(&pool.arrived[b], 1);
            while (atomic_load(&pool.arrived[b]) < net->threads) _mm_pause();
        }
    }
}

static void *help(void *unused) {
    for (int seen = 0;; seen++) {
        while (atomic_load(&pool.begun) == seen) _mm_pause();
        work(1);
        atomic_fetch_add(&pool.left, 1);
    }
    return unused;
}

// Make room for maps whose rows have at most so many bytes. Once, before `run`.
void prepare(size_t bytes_of_row, int threads) {
    for (int i = 0; i < THREADS; i++) {
        Room *room = &pool.rooms[i];
        room->ring = aligned_alloc(64, 3 * bytes_of_row), room->row = aligned_alloc(64, bytes_of_row);
        room->zeros = aligned_alloc(64, bytes_of_row), room->columns = aligned_alloc(64, 4 * bytes_of_row);
        memset(room->zeros, 0, bytes_of_row);
    }
    if (threads > 1) pthread_create(&pool.helper, NULL, help, NULL);
}

// Fill the maps after the first one. Its threads wait busily between two images.
void run(const Net *net) {
    pool.net = *net;
    for (int b = 0; b < net->count; b++) atomic_store(&pool.arrived[b], 0);
    atomic_store(&pool.left, 0);
    if (net->threads > 1) atomic_fetch_add(&pool.begun, 1);
    work(0);
    while (net->threads > 1 && !atomic_load(&pool.left)) _mm_pause();
}
