/* Takes rows of many sizes from several parts, under sanitizers. */

#include <stdio.h>
#include <stdlib.h>
#include "gather.c"

int main(void)
{
    static const int64_t sizes[] = {1, 2, 3, 8, 31, 64, 100, 4095, 4096, 4097, 9000};
    srand(7);
    for (size_t size = 0; size < sizeof sizes / sizeof *sizes; size++) {
        int64_t bytes = sizes[size], counts[3] = {1, 17, 5}, total = 0;
        struct part parts[3];
        uint8_t *memory[3];
        for (int number = 0; number < 3; number++) {
            int64_t stride = number == 1 ? (bytes + 1) / 2 : bytes;
            memory[number] = malloc((size_t)((counts[number] - 1) * stride + bytes));
            for (int64_t place = 0; place < (counts[number] - 1) * stride + bytes; place++)
                memory[number][place] = (uint8_t)rand();
            parts[number] = (struct part){memory[number], total, stride};
            total += counts[number];
        }
        for (int64_t count = 0; count < 40; count++) {
            int64_t *rows = malloc(sizeof *rows * (size_t)count);
            uint8_t *out = malloc((size_t)(count * bytes));
            for (int64_t place = 0; place < count; place++)
                rows[place] = rand() % total;
            if (feedline_gather(parts, 3, total, bytes, rows, count, out) != -1)
                return 1;
            for (int64_t place = 0; place < count; place++)
                if (memcmp(out + place * bytes, address_of(parts, 3, rows[place]), (size_t)bytes))
                    return 2;
            static const int64_t hostile[] = {-1, INT64_MIN, INT64_MAX, 23};
            for (int number = 0; number < 4 && count; number++) {
                rows[count - 1] = hostile[number];
                if (feedline_gather(parts, 3, total, bytes, rows, count, out) != count - 1)
                    return 3;
            }
            free(rows);
            free(out);
        }
        for (int number = 0; number < 3; number++)
            free(memory[number]);
    }
    /* So much that it goes past the cache. */
    int64_t count = STREAMED / 3000 + 1;
    int64_t *rows = calloc((size_t)count, sizeof *rows);
    uint8_t *row = malloc(3000), *out = malloc((size_t)(count * 3000));
    memset(row, 7, 3000);
    struct part part = {row, 0, 3000};
    if (feedline_gather(&part, 1, 1, 3000, rows, count, out) != -1 || out[count * 3000 - 1] != 7)
        return 4;
    free(rows);
    free(row);
    free(out);
    puts("fine");
    return 0;
}
