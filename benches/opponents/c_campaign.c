/* The campaign by a queue of events, which the compiler is told: -DQUEUE='"c_calendar_queue.h"'.
 *
 * One event a domain, and one for the end of a set, which the pair waits for. A queue has push, pop and AHEAD_MAX, how far
 * ahead of now an event may be; a set is in it once.
 */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include QUEUE

enum { DOMAINS = 5, SET_SIZE = 20, DOMAIN_SIZE = SET_SIZE / DOMAINS, REGIONS = 10 };

/* xorshift64*, and normal numbers by the polar method, two at a time. */
typedef struct { uint64_t word; double spare; int has_spare; } Random;

static inline double uniform(Random *random) {
    uint64_t word = random->word;
    word ^= word >> 12; word ^= word << 25; word ^= word >> 27;
    random->word = word;
    return (double)((word * 0x2545f4914f6cdd1dull) >> 11) * 0x1p-53;
}

static double normal(Random *random) {
    if (random->has_spare) {
        random->has_spare = 0;
        return random->spare;
    }
    double u, v, s;
    do {
        u = 2 * uniform(random) - 1;
        v = 2 * uniform(random) - 1;
        s = u * u + v * v;
    } while (s >= 1 || s == 0);
    double scale = sqrt(-2 * log(s) / s);
    random->spare = v * scale;
    random->has_spare = 1;
    return u * scale;
}

/* Writes start_ms[vms] and duration_ms[vms]; sigma < 0: all lengths are freeze_ms. Returns 0; 1: no memory; 2: too long. */
int run(int64_t vms, int64_t freeze_ms, int64_t gap_ms, double mu, double sigma, int64_t *start_ms, uint32_t *duration_ms) {
    uint32_t sets = vms / SET_SIZE, region_sets = sets / REGIONS;
    Queue queue;
    uint8_t *place = calloc(sets, 1); /* domains of each set that are done */
    Random random = {88172645463325252ull, 0, 0};
    uint32_t left[REGIONS], pending = 0;
    int64_t now = 0;
    int status = queue_open(&queue, sets) && place ? 0 : 1;
    if (status) goto out;

    for (int region = 0; region < REGIONS; region++) {
        left[region] = region_sets;
        if (region % 2) continue;
        for (uint32_t set = region * region_sets; set < (region + 1) * region_sets; set++) push(&queue, 0, set);
        pending += region_sets;
    }
    while (pending) {
        uint32_t set = pop(&queue, &now), domain = place[set];
        if (domain == DOMAINS) {
            uint32_t region = set / region_sets;
            pending--;
            if (--left[region] == 0 && region % 2 == 0) {
                for (uint32_t other = (region + 1) * region_sets; other < (region + 2) * region_sets; other++)
                    push(&queue, now, other);
                pending += region_sets;
            }
            continue;
        }
        int64_t longest_ms = 0, vm = (int64_t)set * SET_SIZE + domain;
        for (int member = 0; member < DOMAIN_SIZE; member++, vm += DOMAINS) {
            int64_t length_ms = sigma < 0 ? freeze_ms : llrint(exp(mu + sigma * normal(&random)));
            start_ms[vm] = now;
            duration_ms[vm] = length_ms;
            if (length_ms > longest_ms) longest_ms = length_ms;
        }
        place[set] = domain + 1;
        int64_t after_ms = longest_ms + (domain + 1 < DOMAINS ? gap_ms : 0);
        if (after_ms > AHEAD_MAX) { status = 2; goto out; }
        push(&queue, now + after_ms, set);
    }
out:
    queue_close(&queue);
    free(place);
    return status;
}
