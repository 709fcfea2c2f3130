// What this machine can do at best: programs that fuse by one method each and do nothing else.
//
//     bound read|mean|ties F32|BF16 THREADS OUT BASE MODEL...      (files of weights that hold the same tensors in one order)
//
// A model is one long vector. Nothing is hashed or checked, and sums are in single precision.
//   read   reads every byte of the base and the models once, through buffers that stay in the cache, and writes nothing
//   mean   sum of the models / C; the base is not even read
//   ties   keeps of each model's deltas the largest fifth of the whole model, elects a sign, and averages those of that
//          sign. The k-th largest is exact: a sample says between which two sizes it lies, one pass counts those below
//          and each size between, and a second pass merges.

#define _GNU_SOURCE
#include <fcntl.h>
#include <math.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MAX_MODELS = 256, BLOCK = 8192, SPAN = 1 << 20, RUN = 32, SAMPLES = 1 << 18, MAX_BINS = 1 << 26 };

static const double DENSITY = 0.2, MARGIN = 6.0;  // the margin in standard deviations of a rank in the sample

static int num_models, is_bf16, item, base, models[MAX_MODELS], out;
static int64_t header, count;

typedef struct { uint32_t low, high; } Window;  // sizes as their bits, which are in the order of the sizes
static Window windows[MAX_MODELS];
static int64_t below[MAX_MODELS];
static uint32_t *bins[MAX_MODELS];
static float thresholds[MAX_MODELS];

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int64_t next_span;

static void die(const char *what) {
    perror(what);
    exit(1);
}

static void transfer(int file, void *buffer, int64_t first, int64_t n, int is_write) {
    char *at = buffer;
    int64_t left = n * item, offset = header + first * item;
    while (left > 0) {
        ssize_t done = is_write ? pwrite(file, at, left, offset) : pread(file, at, left, offset);
        if (done <= 0) die(is_write ? "write" : "read");
        at += done, offset += done, left -= done;
    }
}

// Read elements as single precision; what is missing of a whole run is 0.
static void load(int file, int64_t first, int64_t n, float *values) {
    if (is_bf16) {
        static _Thread_local uint16_t raw[BLOCK];
        transfer(file, raw, first, n, 0);
        uint32_t *wide = (uint32_t *)values;
        for (int64_t k = 0; k < n; k++) wide[k] = (uint32_t)raw[k] << 16;
    } else {
        transfer(file, values, first, n, 0);
    }
    for (int64_t k = n; k % RUN; k++) values[k] = 0;
}

static void store(int64_t first, int64_t n, float *values) {
    if (is_bf16) {
        static _Thread_local uint16_t raw[BLOCK];
        const uint32_t *bits = (const uint32_t *)values;
        for (int64_t k = 0; k < n; k++) raw[k] = (uint16_t)((bits[k] + 0x7FFF + ((bits[k] >> 16) & 1)) >> 16);
        transfer(out, raw, first, n, 1);
    } else {
        transfer(out, values, first, n, 1);
    }
}

static float *floats(int64_t n) { return aligned_alloc(64, n * sizeof(float)); }

typedef struct { int64_t first, n, end; } Block;

// Go to the next block; the threads take spans of the vector in turns until none is left.
static int next(Block *at) {
    at->first += at->n;
    if (at->first >= at->end) {
        pthread_mutex_lock(&lock);
        at->first = next_span, next_span += SPAN;
        pthread_mutex_unlock(&lock);
        at->end = at->first + SPAN < count ? at->first + SPAN : count;
    }
    at->n = at->end - at->first < BLOCK ? at->end - at->first : BLOCK;
    return at->n > 0;
}

static void *read_all(void *unused) {
    char *raw = malloc(BLOCK * 4);
    for (Block at = {0}; next(&at);) {
        int64_t first = at.first, n = at.n;
        transfer(base, raw, first, n, 0);
        for (int c = 0; c < num_models; c++) transfer(models[c], raw, first, n, 0);
    }
    return unused;
}

static void *mean(void *unused) {
    float *total = floats(BLOCK), *row = floats(BLOCK);
    for (Block at = {0}; next(&at);) {
        int64_t first = at.first, n = at.n;
        load(models[0], first, n, total);
        for (int c = 1; c < num_models; c++) {
            load(models[c], first, n, row);
            for (int64_t k = 0; k < n; k++) total[k] += row[k];
        }
        for (int64_t k = 0; k < n; k++) total[k] /= (float)num_models;
        store(first, n, total);
    }
    return unused;
}

static void subtract(float *row, const float *before, int64_t n) {
    for (int64_t k = 0; k < n; k++) row[k] -= before[k];
}

static int compare(const void *a, const void *b) {
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

// Rank a sample in runs that lie evenly (or all, of a small model), and set a window around the rank that is looked for.
static void guess(int c, int64_t rank, double margin) {
    int64_t stride = count > SAMPLES ? count / (SAMPLES / 1024) : 1024, n = 0;
    float *row = floats(BLOCK), *before = floats(BLOCK);
    uint32_t *sizes = malloc((SAMPLES + 2048) * sizeof(uint32_t));
    for (int64_t first = 0; first < count; first += stride) {
        int64_t some = count - first < 1024 ? count - first : 1024;
        load(base, first, some, before), load(models[c], first, some, row), subtract(row, before, some);
        for (int64_t k = 0; k < some && n < SAMPLES + 2048; k++) sizes[n++] = ((uint32_t *)row)[k] & 0x7FFFFFFF;
    }
    qsort(sizes, n, sizeof(uint32_t), compare);
    double share = (double)rank / count, width = n < count ? margin * sqrt(n * share * (1 - share)) + 2 : 0;
    int64_t low = share * n - width, high = share * n + width + 1;
    if (n == count) low = high = rank;
    windows[c].low = sizes[low < 0 ? 0 : low], windows[c].high = sizes[high >= n ? n - 1 : high];
    if (windows[c].high - windows[c].low >= MAX_BINS) windows[c].high = windows[c].low + MAX_BINS - 1;
    free(sizes), free(row), free(before);
}

static void *count_sizes(void *unused) {
    float *row = floats(BLOCK), *before = floats(BLOCK);
    int64_t *lower = calloc(num_models, sizeof(int64_t));
    for (Block at = {0}; next(&at);) {
        int64_t first = at.first, n = at.n;
        load(base, first, n, before);
        for (int c = 0; c < num_models; c++) {
            uint32_t low = windows[c].low, width = windows[c].high - low, *size = (uint32_t *)row;
            load(models[c], first, n, row), subtract(row, before, n);
            for (int64_t k = n; k % RUN; k++) size[k] = 0x7FFFFFFF;
            for (int64_t start = 0; start < n; start += RUN) {
                uint32_t under = 0, within = 0;
                for (int k = 0; k < RUN; k++) {
                    uint32_t bits = size[start + k] & 0x7FFFFFFF;
                    under += bits < low, within += bits - low <= width;
                }
                lower[c] += under;
                for (int k = 0; within && k < RUN; k++) {
                    uint32_t bits = size[start + k] & 0x7FFFFFFF;
                    if (bits - low <= width) __atomic_fetch_add(&bins[c][bits - low], 1, __ATOMIC_RELAXED);
                }
            }
        }
    }
    pthread_mutex_lock(&lock);
    for (int c = 0; c < num_models; c++) below[c] += lower[c];
    pthread_mutex_unlock(&lock);
    return unused;
}

static void *elect(void *unused) {
    float *row = floats(BLOCK), *before = floats(BLOCK);
    float *plus = floats(BLOCK), *minus = floats(BLOCK), *num_plus = floats(BLOCK), *num_minus = floats(BLOCK);
    for (Block at = {0}; next(&at);) {
        int64_t first = at.first, n = at.n;
        float *sums[] = {plus, minus, num_plus, num_minus};
        for (int s = 0; s < 4; s++) memset(sums[s], 0, n * sizeof(float));
        load(base, first, n, before);
        for (int c = 0; c < num_models; c++) {
            float least = thresholds[c];
            load(models[c], first, n, row);
            for (int64_t k = 0; k < n; k++) {
                float delta = row[k] - before[k];
                delta = fabsf(delta) >= least ? delta : 0;
                plus[k] += delta > 0 ? delta : 0, num_plus[k] += delta > 0;
                minus[k] += delta < 0 ? delta : 0, num_minus[k] += delta < 0;
            }
        }
        for (int64_t k = 0; k < n; k++) {
            float vote = plus[k] + minus[k];
            vote = vote != 0 ? vote : num_plus[k] - num_minus[k];
            float merged = vote > 0 ? plus[k] / num_plus[k] : minus[k] / num_minus[k];
            before[k] += vote != 0 ? merged : 0;
        }
        store(first, n, before);
    }
    return unused;
}

static void on_threads(int num_threads, void *(*work)(void *)) {
    pthread_t threads[num_threads];
    next_span = 0;
    for (int t = 0; t < num_threads; t++) pthread_create(&threads[t], NULL, work, NULL);
    for (int t = 0; t < num_threads; t++) pthread_join(threads[t], NULL);
}

static void find_thresholds(int num_threads) {
    int64_t rank = count - (int64_t)(count * DENSITY) - 1;
    double margin = MARGIN;
    for (int found = 0; found < num_models; margin *= 4) {
        if (margin > 1e6) die("the k-th largest was not found");
        for (int c = 0; c < num_models; c++) {
            guess(c, rank, margin);
            below[c] = 0;
            free(bins[c]);
            bins[c] = calloc((int64_t)windows[c].high - windows[c].low + 1, sizeof(uint32_t));
        }
        on_threads(num_threads, count_sizes);
        for (found = 0; found < num_models; found++) {
            int64_t sum = below[found], width = windows[found].high - windows[found].low, bin = -1;
            if (sum > rank) break;
            while (sum <= rank && bin < width) sum += bins[found][++bin];
            if (sum <= rank) break;
            uint32_t bits = windows[found].low + bin;
            memcpy(&thresholds[found], &bits, sizeof(float));
        }
    }
}

static int open_weights(const char *path) {
    int file = open(path, O_RDONLY);
    if (file < 0) die(path);
    return file;
}

int main(int argc, char **argv) {
    if (argc < 7 || argc - 6 > MAX_MODELS) return fputs("usage: read|mean|ties F32|BF16 THREADS OUT BASE MODEL...\n", stderr), 2;
    int num_threads = atoi(argv[3]);
    is_bf16 = !strcmp(argv[2], "BF16"), item = is_bf16 ? 2 : 4;
    base = open_weights(argv[5]);
    struct stat info;
    uint64_t length;
    if (fstat(base, &info) || pread(base, &length, 8, 0) != 8) die(argv[5]);
    header = 8 + (int64_t)length, count = (info.st_size - header) / item;
    for (int k = 6; k < argc; k++) models[num_models++] = open_weights(argv[k]);
    if (!strcmp(argv[1], "read")) return on_threads(num_threads, read_all), 0;
    char *head = malloc(header);
    out = open(argv[4], O_RDWR | O_CREAT | O_TRUNC, 0644);
    if (pread(base, head, header, 0) != header || pwrite(out, head, header, 0) != header) die(argv[4]);
    if (ftruncate(out, info.st_size)) die(argv[4]);
    if (!strcmp(argv[1], "mean")) return on_threads(num_threads, mean), 0;
    find_thresholds(num_threads);
    return on_threads(num_threads, elect), 0;
}
