/* Random orders: the numbers that order/permutation.py computes, some three times as fast.
 *
 * A sort of a million random keys misses the cache at nearly every step. Keys that are random need no comparison to come
 * near their places: they are dealt by their highest bits to piles that fit the first level of the cache, there by the
 * next bits to places of about one key each, and what is left to do is an insertion sort that hardly moves anything.
 * It is a sort whatever the keys are, only slower.
 */

#include <stdint.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))

enum { PILE_BITS = 9, MOST_COARSE_BITS = 11, WORDS = 4 };

/* Philox4x64-10 (Salmon and others, 2011), as NumPy's `Philox(key=seed | epoch << 64, counter=stream << 128)` counts. */
struct philox {
    uint64_t key[2];
    uint64_t stream;
    uint64_t blocks; /* how many were drawn */
};

static inline void draw(struct philox *source, uint64_t words[WORDS])
{
    uint64_t counter[WORDS] = {++source->blocks, 0, source->stream, 0};
    uint64_t low_key = source->key[0], high_key = source->key[1];
    for (int round = 0; round < 10; round++) {
        unsigned __int128 first = (unsigned __int128)counter[0] * UINT64_C(0xD2E7470EE14C6C93);
        unsigned __int128 second = (unsigned __int128)counter[2] * UINT64_C(0xCA5A826395121157);
        uint64_t next[WORDS] = {
            (uint64_t)(second >> 64) ^ counter[1] ^ low_key,
            (uint64_t)second,
            (uint64_t)(first >> 64) ^ counter[3] ^ high_key,
            (uint64_t)first,
        };
        memcpy(counter, next, sizeof counter);
        low_key += UINT64_C(0x9E3779B97F4A7C15);
        high_key += UINT64_C(0xBB67AE8584CAA73B);
    }
    memcpy(words, counter, sizeof counter);
}

/* Deals rows 0 to `rows` - 1 to `buckets` by chance, at most 2**16 of them.
 *
 * With `dealt` null only `counts`, one for each bucket, are added to; else each row is put at the place that `counts`
 * tells of its bucket, which moves on by one.
 */
EXPORT int64_t feedline_deal(uint64_t seed, uint64_t epoch, uint64_t stream, int64_t rows, uint64_t buckets,
                             int64_t *counts, uint32_t *dealt)
{
    struct philox source = {{seed, epoch}, stream, 0};
    uint64_t words[WORDS];
    for (int64_t row = 0; row < rows; row += WORDS) {
        draw(&source, words);
        for (int64_t word = 0; word < WORDS && row + word < rows; word++) {
            uint64_t bucket = ((words[word] >> 32) * buckets) >> 32;
            int64_t place = counts[bucket]++;
            if (dealt)
                dealt[place] = (uint32_t)(row + word);
        }
    }
    return 0;
}

static inline void insertion_sort(uint64_t *keys, int64_t count)
{
    for (int64_t place = 1; place < count; place++) {
        uint64_t key = keys[place];
        int64_t to = place;
        for (; to > 0 && keys[to - 1] > key; to--)
            keys[to] = keys[to - 1];
        keys[to] = key;
    }
}

/* Sorts `count` keys by their bits from `shift` on, of which there are `PILE_BITS`, and then by all of them. */
static void sort_pile(const uint64_t *keys, int64_t count, int shift, uint64_t *out)
{
    enum { PLACES = 1 << PILE_BITS };
    uint32_t ends[PLACES + 1] = {0};
    for (int64_t place = 0; place < count; place++)
        ends[((keys[place] >> shift) & (PLACES - 1)) + 1]++;
    for (int place = 0; place < PLACES; place++)
        ends[place + 1] += ends[place];
    for (int64_t place = 0; place < count; place++)
        out[ends[(keys[place] >> shift) & (PLACES - 1)]++] = keys[place];
    insertion_sort(out, count);
}

/* Puts `members`, `count` of them, at most 2**31, in a random order; null stands for the numbers from 0 on.
 *
 * `keys` and `scratch` hold as many numbers; `out` may be `members`.
 */
EXPORT int64_t feedline_shuffle(uint64_t seed, uint64_t epoch, uint64_t stream, const uint32_t *members,
                                int64_t count, uint64_t *keys, uint64_t *scratch, uint32_t *out)
{
    enum { MOST_PILES = 1 << MOST_COARSE_BITS };
    struct philox source = {{seed, epoch}, stream, 0};
    uint64_t words[WORDS];
    int64_t ends[MOST_PILES + 1] = {0};
    int bits = 1;
    while (bits < 32 && (count - 1) >> bits)
        bits++;
    int coarse = bits - PILE_BITS < 1 ? 1 : bits - PILE_BITS > MOST_COARSE_BITS ? MOST_COARSE_BITS : bits - PILE_BITS;
    int64_t piles = (int64_t)1 << coarse;

    for (int64_t place = 0; place < count; place += WORDS) {
        draw(&source, words);
        for (int64_t word = 0; word < WORDS && place + word < count; word++) {
            uint64_t key = (words[word] << bits) | (uint64_t)(place + word);
            keys[place + word] = key;
            ends[(key >> (64 - coarse)) + 1]++;
        }
    }
    for (int64_t pile = 0; pile < piles; pile++)
        ends[pile + 1] += ends[pile];
    for (int64_t place = 0; place < count; place++)
        scratch[ends[keys[place] >> (64 - coarse)]++] = keys[place];
    for (int64_t pile = 0, begin = 0; pile < piles; begin = ends[pile], pile++)
        sort_pile(scratch + begin, ends[pile] - begin, 64 - coarse - PILE_BITS, keys + begin);

    uint64_t mask = (UINT64_C(1) << bits) - 1;
    uint32_t *made = (uint32_t *)scratch; /* `members` are read while `out` is made of them */
    for (int64_t place = 0; place < count; place++) {
        uint64_t number = keys[place] & mask;
        made[place] = members ? members[number] : (uint32_t)number;
    }
    memcpy(out, made, (size_t)count * sizeof *out);
    return 0;
}
