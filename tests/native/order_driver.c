/* Shuffles and deals as many numbers as there are around each power of two; each comes once. */

#include <stdio.h>
#include <stdlib.h>
#include "order.c"

static int is_whole(const uint32_t *numbers, int64_t count)
{
    uint8_t *seen = calloc((size_t)count + 1, 1);
    for (int64_t place = 0; place < count; place++) {
        if (numbers[place] >= count || seen[numbers[place]])
            return 0;
        seen[numbers[place]] = 1;
    }
    free(seen);
    return 1;
}

int main(void)
{
    for (int bits = 0; bits < 18; bits++)
        for (int64_t count = ((int64_t)1 << bits) - 1; count <= ((int64_t)1 << bits) + 1; count++) {
            uint64_t *keys = malloc((size_t)count * sizeof *keys), *scratch = malloc((size_t)count * sizeof *scratch);
            uint32_t *numbers = malloc((size_t)count * sizeof *numbers);
            feedline_shuffle(UINT64_MAX, (uint64_t)bits, 1, NULL, count, keys, scratch, numbers);
            if (!is_whole(numbers, count))
                return 1;
            feedline_shuffle(7, (uint64_t)bits, UINT64_MAX, numbers, count, keys, scratch, numbers);
            if (!is_whole(numbers, count))
                return 2;
            int64_t counts[5] = {0}, begin = 0;
            feedline_deal(7, 1, 0, count, 5, counts, NULL);
            for (int bucket = 0; bucket < 5; bucket++) {
                int64_t size = counts[bucket];
                counts[bucket] = begin;
                begin += size;
            }
            if (begin != count)
                return 3;
            feedline_deal(7, 1, 0, count, 5, counts, numbers);
            if (!is_whole(numbers, count))
                return 4;
            free(keys);
            free(scratch);
            free(numbers);
        }
    puts("fine");
    return 0;
}
