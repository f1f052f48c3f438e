/* What of the shim reads others' bytes, for libFuzzer; with SHIM_DRIVER a main that takes inputs
 * from stdin, each after its length. Violations abort, as the sanitizers do. */
#define SHIM_FUZZ
#include "shim.c"

#define ASSERT(condition) ((condition) ? (void)0 : abort())

unsigned seen; /* so that reading is not left out */

static void judge_answer(const char *data, size_t size)
{
    struct answer answer = {.code = 999};
    enum reading reading = read_answer(data, size, &answer);
    ASSERT(size > 0 || reading == INCOMPLETE);
    if (reading != WHOLE)
        return;
    ASSERT(answer.code <= 255 && answer.out <= MOST_OUTPUT && answer.err <= MOST_OUTPUT);
    ASSERT(size >= ANSWER_HEADER + answer.out + answer.err);
    for (size_t i = 0; i < answer.out + answer.err; i++)
        seen += (unsigned char)data[ANSWER_HEADER + i];
    for (size_t shorter = 0; shorter < ANSWER_HEADER + answer.out + answer.err; shorter++)
        ASSERT(read_answer(data, shorter, &answer) == INCOMPLETE);
}

static void judge_escaping(const char *text)
{
    static struct bytes out;
    out.size = 0;
    append_escaped(&out, text);
    ASSERT(out.size <= 6 * strlen(text));
    append(&out, "", 1);
    for (const unsigned char *at = (const unsigned char *)out.data; *at;) {
        uint32_t code;
        size_t length = character(at, &code);
        ASSERT(code >= 0x20 && code != 0x7f && code != '"' && code != 0xfffd);
        if (code == '\\')
            ASSERT(at[1] == 'u' && strspn((const char *)at + 2, "0123456789abcdef") >= 4);
        at += length;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    /* Copies of just this size, so that a byte too far is seen. */
    char *copy = calloc(1, size + 1), *exact = calloc(1, size ? size : 1);
    ASSERT(copy && exact);
    if (size > 0) {
        memcpy(exact, data, size);
        memcpy(copy, data, size);
    }
    judge_answer(exact, size);
    judge_escaping(copy);
    free(exact);
    free(copy);
    return 0;
}

#ifdef SHIM_DRIVER
int main(void)
{
    static uint8_t data[1 << 20];
    static char length[4];
    unsigned count = 0;
    while (fread(length, 1, 4, stdin) == 4) {
        size_t size = number_at(length);
        ASSERT(size <= sizeof data && fread(data, 1, size, stdin) == size);
        LLVMFuzzerTestOneInput(data, size);
        count++;
    }
    printf("%u\n", count);
    return 0;
}
#endif
