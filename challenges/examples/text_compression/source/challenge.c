/* Text compression: undo the miner's compression, compare with the pinned text, score the size.
 *
 * ../README.md documents the format (version byte, two code tables, tokens) and the score. Work is
 * bounded by the text: every token yields at least one byte, and decoding stops at its last one.
 */
#include "platform_guest.h"

#include "text.h" /* made by the build from data/text.txt: TEXT, TEXT_SIZE */

#define VERSION 1
#define LITERALS 128u /* the text is ASCII: one symbol a character */
#define LENGTHS 16u   /* then one symbol a class of match lengths */
#define SYMBOLS (LITERALS + LENGTHS)
#define DISTANCES 26u
#define MIN_MATCH 3u
#define MAX_BITS 15u

/* A canonical prefix code: how many codes each length has, and the symbols in code order. */
typedef struct {
    uint16_t count[MAX_BITS + 1];
    uint16_t symbol[SYMBOLS];
} code;

typedef struct {
    pg_bytes input;
    uint32_t at; /* next bit, most significant bit of byte 0 first */
    uint32_t made;
    uint32_t literals, matches;
    const char *error;
    uint8_t text[TEXT_SIZE];
} decoder;

static decoder state;
static code symbol_code, distance_code;

static uint32_t fail(decoder *d, const char *error) {
    if (!d->error) d->error = error;
    return 0;
}

static uint32_t read_bits(decoder *d, uint32_t count) {
    uint32_t value = 0;
    if (d->input.size * 8 - d->at < count) return fail(d, "the submission ends too early");
    for (; count; count--, d->at++)
        value = value << 1 | (d->input.data[d->at >> 3] >> (7 - (d->at & 7)) & 1);
    return value;
}

/* Whether the lengths leave room for a prefix code (Kraft's inequality). */
static bool fits(const code *c) {
    uint32_t used = 0;
    for (uint32_t bits = 1; bits <= MAX_BITS; bits++) used += c->count[bits] << (MAX_BITS - bits);
    return used <= 1u << MAX_BITS;
}

static void sort_symbols(code *c, const uint8_t *lengths, uint32_t symbols) {
    uint16_t next[MAX_BITS + 2] = {0};
    for (uint32_t bits = 1; bits <= MAX_BITS; bits++) next[bits + 1] = next[bits] + c->count[bits];
    for (uint32_t i = 0; i < symbols; i++)
        if (lengths[i]) c->symbol[next[lengths[i]]++] = (uint16_t)i;
}

/* Reads a table of code lengths: a nibble each; nibble 0 and then r stand for r + 1 zeros. */
static void read_code(decoder *d, code *c, uint32_t symbols) {
    uint8_t lengths[SYMBOLS] = {0};
    memset(c, 0, sizeof *c);
    for (uint32_t i = 0; i < symbols && !d->error;) {
        uint32_t bits = read_bits(d, 4);
        if (bits) {
            lengths[i++] = (uint8_t)bits;
            c->count[bits]++;
            continue;
        }
        i += read_bits(d, 4) + 1;
        if (i > symbols) fail(d, "a run of zeros leaves the code table");
    }
    if (!d->error && !fits(c)) fail(d, "the code lengths are over-subscribed");
    if (!d->error) sort_symbols(c, lengths, symbols);
}

static uint32_t read_symbol(decoder *d, const code *c) {
    uint32_t value = 0, first = 0, index = 0;
    for (uint32_t bits = 1; bits <= MAX_BITS; bits++) {
        value = value << 1 | read_bits(d, 1);
        if (d->error) return 0;
        if (value - first < c->count[bits]) return c->symbol[index + value - first];
        index += c->count[bits];
        first = (first + c->count[bits]) << 1;
    }
    return fail(d, "these bits are no code word");
}

/* A number from its class: classes 0..3 are the number; above, class 2k+2+h is (2+h)*2^k + k bits. */
static uint32_t read_value(decoder *d, uint32_t class) {
    if (class < 4) return class;
    uint32_t extra = class / 2 - 1;
    return ((2 + class % 2) << extra) + read_bits(d, extra);
}

static void emit(decoder *d, uint8_t byte) {
    if (d->made == TEXT_SIZE) fail(d, "a match runs past the end of the text");
    else if (byte != TEXT[d->made]) fail(d, "this token makes another text");
    else d->text[d->made++] = byte;
}

static void copy_match(decoder *d, uint32_t length_class) {
    uint32_t length = MIN_MATCH + read_value(d, length_class);
    uint32_t distance = 1 + read_value(d, read_symbol(d, &distance_code));
    if (!d->error && distance > d->made) fail(d, "a match reaches before the text");
    for (; length && !d->error; length--) emit(d, d->text[d->made - distance]);
    d->matches++;
}

static void read_token(decoder *d) {
    uint32_t start = d->at;
    uint32_t symbol = read_symbol(d, &symbol_code);
    if (!d->error && symbol >= LITERALS) {
        copy_match(d, symbol - LITERALS);
    } else if (!d->error) {
        emit(d, (uint8_t)symbol);
        d->literals++;
    }
    if (d->error) d->at = start; /* an error is reported where its token begins */
}

/* The padding after the last token is under 8 bits, all zero: one text, one encoding of its end. */
static void read_end(decoder *d) {
    uint32_t left = d->input.size * 8 - d->at;
    if (d->error) return;
    if (left >= 8) {
        d->at = (d->at + 7) / 8 * 8;
        fail(d, "bytes follow the last token");
    } else if (read_bits(d, left)) {
        d->at--;
        fail(d, "the padding is not zero");
    }
}

static void decompress(decoder *d, pg_bytes input) {
    memset(d, 0, sizeof *d);
    d->input = input;
    if (!input.size || input.data[0] != VERSION) {
        fail(d, "the version byte 1 was expected");
        return;
    }
    d->at = 8;
    read_code(d, &symbol_code, SYMBOLS);
    if (!d->error) read_code(d, &distance_code, DISTANCES);
    while (!d->error && d->made < TEXT_SIZE) read_token(d);
    read_end(d);
}

static int64_t refuse(const decoder *d) {
    pg_text text = {0};
    pg_say(&text, "submission byte ");
    pg_say_number(&text, d->at >> 3);
    pg_say(&text, ": ");
    pg_say(&text, d->error);
    pg_say(&text, " (text byte ");
    pg_say_number(&text, d->made);
    pg_say(&text, ")");
    return pg_refuse(&text);
}

static int64_t refuse_size(uint32_t size, int64_t limit) {
    pg_text text = {0};
    pg_say(&text, "submission byte ");
    pg_say_number(&text, limit);
    pg_say(&text, ": the submission has ");
    pg_say_number(&text, size);
    pg_say(&text, " bytes, the limit is ");
    pg_say_number(&text, limit);
    return pg_refuse(&text);
}

static int64_t accept(const decoder *d, int64_t limit, int64_t par) {
    pg_text text = {0};
    int64_t size = d->input.size;
    pg_say(&text, "compressed to ");
    pg_say_number(&text, size);
    pg_say(&text, " bytes");
    const pg_metric metrics[] = {{"bytes", size}, {"literals", d->literals}, {"matches", d->matches}};
    return pg_accept((limit - size) * PG_MAX_SCORE / (limit - par), &text, metrics, 3);
}

PG_EXPORT(evaluate) int64_t evaluate(uint32_t ptr, uint32_t len) {
    pg_input input;
    if (!pg_parse_input(&input, ptr, len)) return pg_refuse_input(&input);
    int64_t limit = pg_param(&input, "max_bytes", 2, 65536);
    int64_t par = pg_param(&input, "par_bytes", 1, limit - 1);
    if (input.reader.error) return pg_refuse_input(&input);
    if (input.submission.size > limit) return refuse_size(input.submission.size, limit);
    decompress(&state, input.submission);
    return state.error ? refuse(&state) : accept(&state, limit, par);
}
