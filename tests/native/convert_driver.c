/* Converts all that can be, of every count around a block, in memory that ends where the numbers end. */

#include <stdio.h>
#include <stdlib.h>
#include "convert.c"

int main(void)
{
    static const int64_t from[] = {CODE('u', 1), CODE('i', 1), CODE('u', 2), CODE('i', 2), CODE('u', 4), CODE('i', 4),
                                   CODE('f', 2), CODE('f', 4), CODE('f', 8), 0, -1};
    static const int64_t to[] = {CODE('f', 4), CODE('i', 4), CODE('i', 8), CODE('u', 8), 0};
    int converted = 0;
    for (size_t source = 0; source < sizeof from / sizeof *from; source++)
        for (size_t target = 0; target < sizeof to / sizeof *to; target++)
            for (int64_t numbers = 0; numbers < 2 * BLOCK + 3; numbers++) {
                size_t bytes = (size_t)numbers * (to[target] % 16 == 8 ? 8 : 4);
                uint8_t *memory = malloc(bytes + 1);
                memset(memory, 1, bytes + 1);
                int64_t done = feedline_convert(from[source], to[target], numbers, 0.5f, -0.0f, memory + 1);
                if (done == 0 && numbers == BLOCK)
                    converted++;
                if (memory[0] != 1)
                    return 1;
                free(memory);
            }
    puts(converted == 16 ? "fine" : "not all were converted");
    return 0;
}
