/* Series forecast: run the miner's linear model over seeded windows of the pinned series.
 *
 * ../README.md documents the model (lags and Q16.16 coefficients), the windows and the score.
 * Overflow cannot happen and needs no check: at most 49 terms, each |coefficient| <= 2^31 times a
 * value within 0..10,000 < 2^14, sum to less than 2^51.
 */
#include "platform_guest.h"

#include "series.h" /* made by the build from data/series.csv: SERIES (tenths, yearly), SERIES_SIZE */

#define VERSION 1
#define HEADER 8u
#define TERM 5u
#define MAX_TERMS 49u
#define MAX_LAG 100u
#define MAX_HORIZON 32
#define MAX_WINDOWS 64
#define MAX_VALUE 10000 /* tenths; a forecast is clamped to 0..MAX_VALUE */
#define ONE_BITS 16     /* Q16.16 */

typedef struct {
    uint32_t terms;
    int64_t intercept; /* Q16.16 tenths */
    uint8_t lag[MAX_TERMS];
    int32_t coefficient[MAX_TERMS]; /* Q16.16 */
} model;

typedef struct {
    int64_t model, naive; /* sums of absolute errors, tenths */
} errors;

static model miner_model;

static int64_t refuse(uint32_t at, const char *error, int64_t found) {
    pg_text text = {0};
    pg_say(&text, "submission byte ");
    pg_say_number(&text, at);
    pg_say(&text, ": ");
    pg_say(&text, error);
    pg_say(&text, ", found ");
    pg_say_number(&text, found);
    return pg_refuse(&text);
}

static int32_t little_endian(const uint8_t *data) {
    return (int32_t)((uint32_t)data[0] | (uint32_t)data[1] << 8 | (uint32_t)data[2] << 16 |
                     (uint32_t)data[3] << 24);
}

/* 0 when the header is well formed, else the refusal. */
static int64_t check_header(pg_bytes data) {
    if (data.size < HEADER) return refuse(data.size, "the header has 8 bytes", data.size);
    if (data.data[0] != VERSION) return refuse(0, "version 1 was expected", data.data[0]);
    if (data.data[1] < 1 || data.data[1] > MAX_TERMS)
        return refuse(1, "1 to 49 terms were expected", data.data[1]);
    if (data.data[2] || data.data[3])
        return refuse(data.data[2] ? 2 : 3, "a reserved byte must be 0",
                      data.data[2] ? data.data[2] : data.data[3]);
    uint32_t size = HEADER + TERM * data.data[1];
    if (data.size != size)
        return refuse(data.size < size ? data.size : size, "the size must be 8 + 5 x terms",
                      data.size);
    return 0;
}

static int64_t read_model(model *m, pg_bytes data) {
    int64_t refusal = check_header(data);
    if (refusal) return refusal;
    m->terms = data.data[1];
    m->intercept = little_endian(data.data + 4);
    for (uint32_t i = 0; i < m->terms; i++) {
        uint32_t at = HEADER + TERM * i;
        uint32_t lag = data.data[at];
        if (lag < 1 || lag > MAX_LAG) return refuse(at, "a lag of 1 to 100 was expected", lag);
        if (i && lag <= m->lag[i - 1]) return refuse(at, "lags must increase", lag);
        m->lag[i] = (uint8_t)lag;
        m->coefficient[i] = little_endian(data.data + at + 1);
    }
    return 0;
}

/* One step: `next` points behind the newest known value. Rounds half up, then clamps. */
static int32_t forecast(const model *m, const int32_t *next) {
    int64_t sum = m->intercept + (1 << (ONE_BITS - 1));
    for (uint32_t i = 0; i < m->terms; i++) sum += (int64_t)m->coefficient[i] * next[-m->lag[i]];
    sum >>= ONE_BITS;
    return sum < 0 ? 0 : sum > MAX_VALUE ? MAX_VALUE : (int32_t)sum;
}

static int64_t distance(int32_t a, int32_t b) { return a < b ? b - a : a - b; }

/* Forecasts `horizon` values from `start` on; each step feeds the next (no true value is seen). */
static void score_window(const model *m, uint32_t start, uint32_t horizon, errors *sums) {
    int32_t values[MAX_LAG + MAX_HORIZON];
    for (uint32_t i = 0; i < MAX_LAG; i++) values[i] = SERIES[start - MAX_LAG + i];
    for (uint32_t i = 0; i < horizon; i++) {
        int32_t truth = SERIES[start + i];
        values[MAX_LAG + i] = forecast(m, values + MAX_LAG + i);
        sums->model += distance(values[MAX_LAG + i], truth);
        sums->naive += distance(SERIES[start - 1], truth);
    }
}

/* Window i begins at MAX_LAG + (word i of sha256(seed | block)) mod the number of places. */
static void score_windows(const model *m, pg_bytes seed, uint32_t windows, uint32_t horizon,
                          errors *sums) {
    uint8_t block[33], digest[32];
    memcpy(block, seed.data, 32);
    for (uint32_t i = 0; i < windows; i++) {
        block[32] = (uint8_t)(i / 8);
        if (i % 8 == 0) pg_host_sha256(block, 33, digest);
        uint32_t word = (uint32_t)little_endian(digest + i % 8 * 4);
        uint32_t places = SERIES_SIZE - MAX_LAG - horizon + 1;
        score_window(m, MAX_LAG + word % places, horizon, sums);
    }
}

/* 1 - (model error / naive error) / 2, in millionths: 500,000 is as good as the naive forecast. */
static int64_t accept(const model *m, const errors *sums) {
    int64_t naive = sums->naive ? sums->naive : 1;
    int64_t loss = sums->model * (PG_MAX_SCORE / 2) / naive;
    pg_text text = {0};
    pg_say(&text, "model error ");
    pg_say_number(&text, sums->model);
    pg_say(&text, ", naive error ");
    pg_say_number(&text, sums->naive);
    const pg_metric metrics[] = {
        {"model_error", sums->model}, {"naive_error", sums->naive}, {"terms", m->terms}};
    return pg_accept(PG_MAX_SCORE - loss, &text, metrics, 3);
}

PG_EXPORT(evaluate) int64_t evaluate(uint32_t ptr, uint32_t len) {
    pg_input input;
    errors sums = {0, 0};
    if (!pg_parse_input(&input, ptr, len)) return pg_refuse_input(&input);
    uint32_t windows = (uint32_t)pg_param(&input, "windows", 1, MAX_WINDOWS);
    uint32_t horizon = (uint32_t)pg_param(&input, "horizon", 1, MAX_HORIZON);
    if (input.reader.error) return pg_refuse_input(&input);
    int64_t refusal = read_model(&miner_model, input.submission);
    if (refusal) return refusal;
    score_windows(&miner_model, input.seed, windows, horizon, &sums);
    return accept(&miner_model, &sums);
}
