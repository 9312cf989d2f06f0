/* Makes wider numbers of those that are stored, in the memory where they are to be: floats, scaled, or integers.
 *
 * NumPy does it in two steps, each by a call that gives the interpreter up and asks for it again, and needs memory in
 * between. Here what is stored lies at the end of the memory that the results fill from its beginning: they come up
 * with it at the last number only. Blocks that would overlap are copied out first, so that a compiler may take many
 * numbers at once.
 */

#include <stdint.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))
#define CODE(kind, bytes) ((kind) * 16 + (bytes)) /* as NumPy says: 'u', 'i' or 'f', and bytes */

enum { BLOCK = 1024 };

/* A product, and a sum: two roundings, as NumPy's, so contraction must be off. */
#define SCALED(number) ((float)(number) * by + offset)
#define SAME(number) (number)

#define WIDENED(number) (widened(number) * by + offset)

/* Of a half. No number here is subnormal as a float, which a program may have set to become 0. */
static inline float widened(uint16_t half)
{
    const uint32_t exponent = UINT32_C(31) << 23, least_bits = UINT32_C(113) << 23;
    uint32_t shifted = (uint32_t)(half & 0x7fff) << 13;
    uint32_t bits = shifted + (UINT32_C(112) << 23);
    uint32_t small_bits = shifted + least_bits;
    float least, small, number;
    memcpy(&least, &least_bits, sizeof least);
    memcpy(&small, &small_bits, sizeof small);
    small -= least;
    memcpy(&small_bits, &small, sizeof small_bits);
    bits += (shifted & exponent) == exponent ? UINT32_C(112) << 23 : 0; /* infinity, or no number */
    bits = shifted & exponent ? bits : small_bits;
    bits |= (uint32_t)(half & 0x8000) << 16;
    memcpy(&number, &bits, sizeof number);
    return number;
}

#define LOOP(TO, EXPRESSION, COUNT, IN, OUT)                                                                           \
    for (int64_t number = 0; number < COUNT; number++)                                                                 \
        OUT[number] = (TO)EXPRESSION(IN[number])

#define CONVERT(FROM, TO, EXPRESSION)                                                                                  \
    do {                                                                                                               \
        typedef FROM __attribute__((aligned(1), may_alias)) from_here;                                                 \
        typedef TO __attribute__((aligned(1), may_alias)) to_here;                                                     \
        FROM stored[BLOCK];                                                                                            \
        const uint8_t *in = memory + numbers * (int64_t)(sizeof(TO) - sizeof(FROM));                                   \
        for (int64_t begin = 0; begin < numbers; begin += BLOCK) {                                                     \
            int64_t count = numbers - begin < BLOCK ? numbers - begin : BLOCK;                                         \
            const uint8_t *source = in + begin * (int64_t)sizeof(FROM);                                                \
            to_here *restrict out = (to_here *)(memory + begin * (int64_t)sizeof(TO));                                 \
            if ((const uint8_t *)(out + count) <= source) {                                                            \
                const from_here *restrict apart = (const from_here *)source;                                           \
                LOOP(TO, EXPRESSION, count, apart, out);                                                               \
            } else {                                                                                                   \
                memcpy(stored, source, (size_t)count * sizeof(FROM));                                                  \
                LOOP(TO, EXPRESSION, count, stored, out);                                                              \
            }                                                                                                          \
        }                                                                                                              \
        return 0;                                                                                                      \
    } while (0)

#define CASES(KIND, BYTES, FROM)                                                                                       \
    case CODE(KIND, BYTES):                                                                                            \
        switch (to) {                                                                                                  \
        case CODE('f', 4): CONVERT(FROM, float, SCALED);                                                               \
        case CODE('i', 4): CONVERT(FROM, int32_t, SAME);                                                               \
        case CODE('i', 8): CONVERT(FROM, int64_t, SAME);                                                               \
        default: return -1;                                                                                            \
        }

/* Makes `numbers` of `from` into `to`; floats are multiplied by `by`, and `offset` is added (-0.0 changes none).
 *
 * `memory` holds as many of `to`; what is stored lies at its end. Returns -1 for what it does not convert, else 0.
 */
EXPORT int64_t feedline_convert(int64_t from, int64_t to, int64_t numbers, float by, float offset, uint8_t *memory)
{
    switch (from) {
    CASES('u', 1, uint8_t)
    CASES('i', 1, int8_t)
    CASES('u', 2, uint16_t)
    CASES('i', 2, int16_t)
    case CODE('f', 2):
        if (to == CODE('f', 4) && by == 1 && offset == 0)
            CONVERT(uint16_t, float, widened);
        if (to == CODE('f', 4))
            CONVERT(uint16_t, float, WIDENED);
        return -1;
    case CODE('f', 4):
        if (to == CODE('f', 4))
            CONVERT(float, float, SCALED);
        return -1;
    case CODE('u', 4):
        if (to == CODE('i', 8))
            CONVERT(uint32_t, int64_t, SAME);
        return -1;
    case CODE('i', 4):
        if (to == CODE('i', 8))
            CONVERT(int32_t, int64_t, SAME);
        return -1;
    default: return -1;
    }
}
