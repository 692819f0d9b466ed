/* See platform_guest.h. Here: C runtime, alloc, reading, the input. */
#include "platform_guest.h"

#define PAGE 65536u

/* ---- What the compiler may call without being asked. ----
 * bulk-memory instructions are not used (the build targets the wasm MVP), so that fuel is spent on
 * plain instructions only. */

void *memcpy(void *restrict to, const void *restrict from, size_t size) {
    uint8_t *target = to;
    const uint8_t *source = from;
    while (size--) *target++ = *source++;
    return to;
}

void *memset(void *to, int value, size_t size) {
    uint8_t *target = to;
    while (size--) *target++ = (uint8_t)value;
    return to;
}

/* ---- Memory: a bump allocator that never frees; the host makes one instance an evaluation. ---- */

extern uint8_t __heap_base;
static uint32_t heap_used;

PG_EXPORT(abi_version) int32_t abi_version(void) { return PG_ABI_VERSION; }

static uint64_t memory_bytes(void) { return (uint64_t)__builtin_wasm_memory_size(0) * PAGE; }

/* The address of `size` fresh bytes, or 0 when the memory cannot grow that far. */
PG_EXPORT(alloc) uint32_t alloc(uint32_t size) {
    uint64_t start = ((uint64_t)(uintptr_t)&__heap_base + heap_used + 7) & ~7ull;
    uint64_t end = start + size;
    if (end > UINT32_MAX) return 0;
    if (end > memory_bytes()) {
        uint64_t missing = (end - memory_bytes() + PAGE - 1) / PAGE;
        if (__builtin_wasm_memory_grow(0, (uint32_t)missing) == (size_t)-1) return 0;
    }
    heap_used = (uint32_t)(end - (uintptr_t)&__heap_base);
    return (uint32_t)start;
}

/* ---- Reading. ---- */

bool pg_spells(pg_bytes bytes, const char *name) {
    uint32_t i = 0;
    for (; i < bytes.size && name[i]; i++)
        if (bytes.data[i] != (uint8_t)name[i]) return false;
    return i == bytes.size && !name[i];
}

static void fail(pg_reader *reader, uint32_t at, const char *error, const char *field) {
    if (reader->error) return;
    reader->error = error;
    reader->field = field;
    reader->at = at;
}

/* A big-endian number of `width` bytes. */
static uint64_t read_number(pg_reader *reader, uint32_t width) {
    if (reader->error) return 0;
    if (reader->size - reader->at < width) {
        fail(reader, reader->at, "the input ends inside a value", NULL);
        return 0;
    }
    uint64_t number = 0;
    while (width--) number = number << 8 | reader->data[reader->at++];
    return number;
}

static pg_bytes take(pg_reader *reader, uint32_t size) {
    pg_bytes bytes = {reader->data, 0};
    if (reader->error) return bytes;
    if (reader->size - reader->at < size) {
        fail(reader, reader->at, "the input ends inside a value", NULL);
        return bytes;
    }
    bytes.data = reader->data + reader->at;
    bytes.size = size;
    reader->at += size;
    return bytes;
}

uint32_t pg_read_map(pg_reader *reader) {
    uint32_t at = reader->at;
    uint8_t tag = (uint8_t)read_number(reader, 1);
    if ((tag & 0xf0) == 0x80) return tag & 0x0f;
    if (tag == 0xde) return (uint32_t)read_number(reader, 2);
    if (tag == 0xdf) return (uint32_t)read_number(reader, 4);
    fail(reader, at, "a map was expected", NULL);
    return 0;
}

pg_bytes pg_read_str(pg_reader *reader) {
    uint32_t at = reader->at;
    uint8_t tag = (uint8_t)read_number(reader, 1);
    if ((tag & 0xe0) == 0xa0) return take(reader, tag & 0x1f);
    if (tag >= 0xd9 && tag <= 0xdb) {
        uint32_t size = (uint32_t)read_number(reader, 1u << (tag - 0xd9));
        return take(reader, size);
    }
    fail(reader, at, "a string was expected", NULL);
    return take(reader, 0);
}

pg_bytes pg_read_bin(pg_reader *reader) {
    uint32_t at = reader->at;
    uint8_t tag = (uint8_t)read_number(reader, 1);
    if (tag >= 0xc4 && tag <= 0xc6) {
        uint32_t size = (uint32_t)read_number(reader, 1u << (tag - 0xc4));
        return take(reader, size);
    }
    fail(reader, at, "binary data was expected", NULL);
    return take(reader, 0);
}

int64_t pg_read_int(pg_reader *reader) {
    uint32_t at = reader->at;
    uint8_t tag = (uint8_t)read_number(reader, 1);
    if (tag < 0x80 || tag >= 0xe0) return (int8_t)tag;
    if (tag >= 0xcc && tag <= 0xcf) {
        uint64_t number = read_number(reader, 1u << (tag - 0xcc));
        if (number > INT64_MAX) fail(reader, at, "an integer of 64 signed bits was expected", NULL);
        return number > INT64_MAX ? 0 : (int64_t)number;
    }
    if (tag >= 0xd0 && tag <= 0xd3) {
        uint32_t width = 1u << (tag - 0xd0);
        uint32_t unused = 64 - 8 * width;
        return (int64_t)(read_number(reader, width) << unused) >> unused;
    }
    fail(reader, at, "an integer was expected", NULL);
    return 0;
}

/* Steps over one head and its scalar payload; returns how many values follow as its children. */
static uint64_t skip_head(pg_reader *reader) {
    uint32_t at = reader->at;
    uint8_t tag = (uint8_t)read_number(reader, 1);
    uint32_t size = 0;
    if (tag < 0x80 || tag >= 0xe0) return 0;
    if (tag < 0x90) return 2u * (tag & 0x0f);
    if (tag < 0xa0) return tag & 0x0f;
    if (tag < 0xc0) size = tag & 0x1f;
    else if (tag == 0xc1) fail(reader, at, "this byte begins no value", NULL);
    else if (tag < 0xc4) size = 0;
    else if (tag < 0xc7) size = (uint32_t)read_number(reader, 1u << (tag - 0xc4));
    else if (tag < 0xca) { size = (uint32_t)read_number(reader, 1u << (tag - 0xc7)); take(reader, 1); }
    else if (tag < 0xcc) size = 4u << (tag - 0xca);
    else if (tag < 0xd0) size = 1u << (tag - 0xcc);
    else if (tag < 0xd4) size = 1u << (tag - 0xd0);
    else if (tag < 0xd9) size = 1 + (1u << (tag - 0xd4));
    else if (tag < 0xdc) size = (uint32_t)read_number(reader, 1u << (tag - 0xd9));
    else if (tag < 0xde) return read_number(reader, 2u << (tag - 0xdc));
    else return 2 * read_number(reader, 2u << (tag - 0xde));
    take(reader, size);
    return 0;
}

pg_bytes pg_read_any(pg_reader *reader) {
    uint32_t start = reader->at;
    /* A count, not a recursion: nesting cannot exhaust the stack. Every step reads at least one
     * byte or fails, so the input's length bounds the work and the count stays below 2^64. */
    for (uint64_t open = 1; open && !reader->error; open--) open += skip_head(reader);
    pg_bytes bytes = {reader->data + start, reader->error ? 0 : reader->at - start};
    return bytes;
}

/* ---- The input. ---- */

typedef enum { INT, STR, BIN, BIN32, ANY } kind;

typedef struct {
    const char *name;
    kind kind;
    void *target; /* int64_t for INT, else pg_bytes */
} field;

static void read_field(pg_reader *reader, const field *field) {
    uint32_t at = reader->at;
    if (field->kind == INT) {
        *(int64_t *)field->target = pg_read_int(reader);
    } else {
        pg_bytes *bytes = field->target;
        *bytes = field->kind == STR ? pg_read_str(reader)
                 : field->kind == ANY ? pg_read_any(reader)
                                      : pg_read_bin(reader);
        if (field->kind == BIN32 && bytes->size != 32)
            fail(reader, at, "32 bytes were expected", field->name);
    }
    if (reader->error && !reader->field) reader->field = field->name;
}

/* Reads a map that must hold each field exactly once; unknown keys are skipped. */
static void read_record(pg_reader *reader, const field *fields, uint32_t count) {
    uint32_t start = reader->at;
    uint32_t seen = 0;
    for (uint32_t pairs = pg_read_map(reader); pairs && !reader->error; pairs--) {
        uint32_t at = reader->at;
        pg_bytes key = pg_read_str(reader);
        uint32_t i = 0;
        while (i < count && !pg_spells(key, fields[i].name)) i++;
        if (i == count) {
            pg_read_any(reader);
        } else if (seen >> i & 1) {
            fail(reader, at, "this field comes twice", fields[i].name);
        } else {
            seen |= 1u << i;
            read_field(reader, &fields[i]);
        }
    }
    for (uint32_t i = 0; i < count; i++)
        if (!(seen >> i & 1)) fail(reader, start, "the map lacks a field", fields[i].name);
}

/* Reads a record out of a value that pg_read_any stepped over; offsets stay the input's own. */
static void read_inner(pg_input *input, pg_bytes value, const field *fields, uint32_t count) {
    if (input->reader.error) return;
    pg_reader inner = input->reader;
    inner.at = (uint32_t)(value.data - inner.data);
    inner.size = inner.at + value.size;
    read_record(&inner, fields, count);
    if (inner.error) fail(&input->reader, inner.at, inner.error, inner.field);
}

static void read_input(pg_input *input) {
    pg_reader *reader = &input->reader;
    pg_bytes challenge = {0}, context = {0};
    const field top[] = {{"submission", BIN, &input->submission},
                         {"miner", BIN32, &input->miner},
                         {"challenge", ANY, &challenge},
                         {"context", ANY, &context}};
    read_record(reader, top, 4);
    if (reader->at < reader->size) fail(reader, reader->at, "bytes follow the input map", NULL);
    const field about[] = {{"id", STR, &input->challenge_id},
                           {"version", INT, &input->challenge_version},
                           {"params", ANY, &input->params}};
    read_inner(input, challenge, about, 3);
    const field when[] = {{"epoch", INT, &input->epoch},
                          {"height", INT, &input->height},
                          {"time_ms", INT, &input->time_ms},
                          {"seed", BIN32, &input->seed}};
    read_inner(input, context, when, 4);
}

bool pg_parse_input(pg_input *input, uint32_t ptr, uint32_t len) {
    memset(input, 0, sizeof *input);
    if ((uint64_t)ptr + len > memory_bytes()) {
        input->reader.error = "the input lies outside the memory";
        return false;
    }
    input->reader.data = (const uint8_t *)(uintptr_t)ptr;
    input->reader.size = len;
    read_input(input);
    return !input->reader.error;
}

int64_t pg_param(pg_input *input, const char *name, int64_t lowest, int64_t highest) {
    int64_t value = 0;
    const field wanted = {name, INT, &value};
    read_inner(input, input->params, &wanted, 1);
    if (!input->reader.error && (value < lowest || value > highest)) {
        uint32_t at = (uint32_t)(input->params.data - input->reader.data);
        fail(&input->reader, at, "this parameter is out of range", name);
    }
    return input->reader.error ? lowest : value;
}
