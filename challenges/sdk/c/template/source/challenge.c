/* @TITLE@: how close is the submitted decimal number to the target? README.md states the score. */
#include "platform_guest.h"

#define MAX_DIGITS 9u /* so that the number fits 32 bits, and the work is bounded */

static int64_t refuse(uint32_t at, const char *why) {
    pg_text text = {0};
    pg_say(&text, "submission byte ");
    pg_say_number(&text, at);
    pg_say(&text, ": ");
    pg_say(&text, why);
    return pg_refuse(&text);
}

PG_EXPORT(evaluate) int64_t evaluate(uint32_t ptr, uint32_t len) {
    pg_input input;
    if (!pg_parse_input(&input, ptr, len)) return pg_refuse_input(&input);
    int64_t target = pg_param(&input, "target", 0, 999999999);
    int64_t range = pg_param(&input, "range", 1, 999999999);
    if (input.reader.error) return pg_refuse_input(&input);

    pg_bytes digits = input.submission;
    if (!digits.size) return refuse(0, "1 to 9 digits were expected");
    if (digits.size > MAX_DIGITS) return refuse(MAX_DIGITS, "1 to 9 digits were expected");
    int64_t number = 0;
    for (uint32_t i = 0; i < digits.size; i++) {
        if (digits.data[i] < '0' || digits.data[i] > '9') return refuse(i, "a digit was expected");
        number = number * 10 + (digits.data[i] - '0');
    }

    int64_t distance = number < target ? target - number : number - target;
    if (!distance) pg_host_log("spot on", 7);
    pg_text text = {0};
    pg_say(&text, "off by ");
    pg_say_number(&text, distance);
    const pg_metric metrics[] = {{"distance", distance}};
    return pg_accept((range - distance) * PG_MAX_SCORE / range, &text, metrics, 1);
}
