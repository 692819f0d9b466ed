/* The guest side of the core-wasm ABI (docs/challenges.md) for freestanding C.
 *
 * A challenge includes this header, is linked with platform_guest.c and
 * platform_output.c and defines
 *
 *     int64_t evaluate(uint32_t ptr, uint32_t len);
 *
 * Rules this helper keeps, so that a challenge need not:
 *  - nothing here traps: every read is bounded, every error is a value;
 *  - nothing here uses floating point, a libc or memory outside the module;
 *  - a host function is imported only by a challenge that calls it.
 */
#ifndef PLATFORM_GUEST_H
#define PLATFORM_GUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PG_ABI_VERSION 1
#define PG_MAX_SCORE 1000000
#define PG_EXPORT(name) __attribute__((export_name(#name)))
#define PG_IMPORT(name) __attribute__((import_module("platform"), import_name(#name)))

/* ---- Host functions. All lengths are bytes; `out` of sha256 is 32 bytes. ---- */

PG_IMPORT(log) extern void pg_host_log(const void *data, uint32_t size);
PG_IMPORT(time_ms) extern int64_t pg_host_time_ms(void);
PG_IMPORT(random) extern void pg_host_random(void *out, uint32_t size);
PG_IMPORT(sha256) extern void pg_host_sha256(const void *data, uint32_t size, uint8_t *out);

/* Both return the value's length, -1 for none. A value longer than `capacity` is not copied.
 * data_get finds the files of data/blobs, storage_get the challenge's storage as it stood when the
 * submission was admitted. storage_put takes effect when the submission's result is settled; an
 * empty value removes the key. Keys have 1 to 64 bytes, values up to 8,192. */
PG_IMPORT(data_get)
extern int32_t pg_host_data_get(const void *key, uint32_t size, void *out, uint32_t capacity);
PG_IMPORT(storage_get)
extern int32_t pg_host_storage_get(const void *key, uint32_t size, void *out, uint32_t capacity);
PG_IMPORT(storage_put)
extern void pg_host_storage_put(const void *key, uint32_t size, const void *value, uint32_t length);

/* ---- Bytes. ---- */

void *memcpy(void *restrict to, const void *restrict from, size_t size);
void *memset(void *to, int value, size_t size);

typedef struct {
    const uint8_t *data;
    uint32_t size;
} pg_bytes;

/* Whether `bytes` spell exactly the C string `name`. */
bool pg_spells(pg_bytes bytes, const char *name);

/* ---- Reading MessagePack. ----
 * The first error sticks: `error` names it, `at` is its byte offset in the input, and every later
 * read returns zero. So a caller may read a whole record and look at `error` once. */

typedef struct {
    const uint8_t *data;
    uint32_t size; /* first byte not to be read */
    uint32_t at;   /* next byte to be read */
    const char *error;
    const char *field; /* the field the error is about, or NULL */
} pg_reader;

uint32_t pg_read_map(pg_reader *reader); /* number of key-value pairs */
pg_bytes pg_read_str(pg_reader *reader);
pg_bytes pg_read_bin(pg_reader *reader);
int64_t pg_read_int(pg_reader *reader);
pg_bytes pg_read_any(pg_reader *reader); /* skips one value of any kind; its encoded bytes */

/* ---- The input of evaluate(). ---- */

typedef struct {
    pg_reader reader; /* keeps the first error */
    pg_bytes submission, miner, seed;
    pg_bytes challenge_id, params;
    int64_t challenge_version, epoch, height, time_ms;
} pg_input;

/* Reads the whole input map; false when it breaks the contract (then `reader` says why). */
bool pg_parse_input(pg_input *input, uint32_t ptr, uint32_t len);

/* The challenge parameter `name`, which must be within lowest..highest; else an error is kept. */
int64_t pg_param(pg_input *input, const char *name, int64_t lowest, int64_t highest);

/* ---- Messages: text that is cut, not overrun, when it is too long. ---- */

#define PG_TEXT_CAPACITY 200

typedef struct {
    uint32_t size;
    uint8_t data[PG_TEXT_CAPACITY];
} pg_text;

/* `words` is UTF-8; where it is cut inside a character the output is `bad_output`: stay in ASCII. */
void pg_say(pg_text *text, const char *words);
void pg_say_number(pg_text *text, int64_t number);

/* ---- The output of evaluate(). ---- */

typedef struct {
    const char *name;
    int64_t value;
} pg_metric;

/* Encodes {score, valid: true, message, metrics}; the score is clamped to 0..PG_MAX_SCORE.
 * The caller sorts the metrics by name (bytes): another order is `bad_output`. At most 15 are
 * written, and the whole output has at most 1,024 bytes. */
int64_t pg_accept(int64_t score, const pg_text *message, const pg_metric *metrics, uint32_t count);

/* Encodes {score: 0, valid: false, message, metrics: {}}. */
int64_t pg_refuse(const pg_text *message);

/* Refuses with the error kept in the input's reader. */
int64_t pg_refuse_input(const pg_input *input);

#endif
