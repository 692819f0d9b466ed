/* See platform_guest.h. Here: messages and the output. */
#include "platform_guest.h"

/* ---- Messages. ---- */

void pg_say(pg_text *text, const char *words) {
    while (*words && text->size < PG_TEXT_CAPACITY) text->data[text->size++] = (uint8_t)*words++;
}

void pg_say_number(pg_text *text, int64_t number) {
    char digits[21];
    char *first = digits + 20;
    uint64_t rest = number < 0 ? 0 - (uint64_t)number : (uint64_t)number;
    *first = 0;
    do *--first = (char)('0' + rest % 10);
    while (rest /= 10);
    if (number < 0) pg_say(text, "-");
    pg_say(text, first);
}

/* ---- Output. ---- */

#define OUTPUT_CAPACITY 1024

static uint8_t output[OUTPUT_CAPACITY];
static uint32_t output_size;

static void put(uint64_t number, uint32_t width) {
    while (width--)
        if (output_size < OUTPUT_CAPACITY) output[output_size++] = (uint8_t)(number >> 8 * width);
}

static void put_str(const uint8_t *data, uint32_t size) {
    if (size < 32) put(0xa0 | size, 1);
    else put(0xd900 | size, 2); /* no text here is longer than PG_TEXT_CAPACITY */
    for (uint32_t i = 0; i < size; i++) put(data[i], 1);
}

static void put_name(const char *name) {
    uint32_t size = 0;
    while (size < PG_TEXT_CAPACITY && name[size]) size++;
    put_str((const uint8_t *)name, size);
}

/* The shortest form of MessagePack, as every canonical encoder writes it. */
static void put_int(int64_t value) {
    uint64_t bits = (uint64_t)value;
    if (value >= -32 && value < 128) put(bits, 1);
    else if (value > 0 && value <= UINT8_MAX) { put(0xcc, 1); put(bits, 1); }
    else if (value > 0 && value <= UINT16_MAX) { put(0xcd, 1); put(bits, 2); }
    else if (value > 0 && value <= UINT32_MAX) { put(0xce, 1); put(bits, 4); }
    else if (value > 0) { put(0xcf, 1); put(bits, 8); }
    else if (value >= INT8_MIN) { put(0xd0, 1); put(bits, 1); }
    else if (value >= INT16_MIN) { put(0xd1, 1); put(bits, 2); }
    else if (value >= INT32_MIN) { put(0xd2, 1); put(bits, 4); }
    else { put(0xd3, 1); put(bits, 8); }
}

static int64_t finish(int64_t score, bool valid, const pg_text *message, const pg_metric *metrics,
                      uint32_t count) {
    output_size = 0;
    put(0x84, 1);
    put_name("score");
    put_int(score);
    put_name("valid");
    put(valid ? 0xc3 : 0xc2, 1);
    put_name("message");
    put_str(message->data, message->size);
    put_name("metrics");
    put(0x80 | (count < 16 ? count : 15), 1);
    for (uint32_t i = 0; i < count && i < 15; i++) {
        put_name(metrics[i].name);
        put_int(metrics[i].value);
    }
    return (int64_t)((uint64_t)output_size << 32 | (uintptr_t)output);
}

int64_t pg_accept(int64_t score, const pg_text *message, const pg_metric *metrics, uint32_t count) {
    if (score < 0) score = 0;
    if (score > PG_MAX_SCORE) score = PG_MAX_SCORE;
    return finish(score, true, message, metrics, count);
}

int64_t pg_refuse(const pg_text *message) { return finish(0, false, message, NULL, 0); }

int64_t pg_refuse_input(const pg_input *input) {
    pg_text text = {0};
    pg_say(&text, "input byte ");
    pg_say_number(&text, input->reader.at);
    pg_say(&text, ": ");
    pg_say(&text, input->reader.error);
    if (input->reader.field) {
        pg_say(&text, ": ");
        pg_say(&text, input->reader.field);
    }
    return pg_refuse(&text);
}
