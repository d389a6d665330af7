/* The campaign by a calendar queue: a year of 2^21 days of 1 ms, each day a list of the sets whose next domain starts on it.
 *
 * A day is one instant, and no event lies a year ahead, so a day needs no order; a bit a day lets the search skip
 * empty ones 64 at a time. A set is in the queue once, so its list is an array of links. One event a domain, and one
 * for the end of a set, which the pair waits for.
 */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { DOMAINS = 5, SET_SIZE = 20, DOMAIN_SIZE = SET_SIZE / DOMAINS, REGIONS = 10, NONE = 0xffffffff };
enum { YEAR = 1 << 21, WORDS = YEAR / 64 };

typedef struct {
    uint32_t *head;     /* [YEAR] first set of each day */
    uint64_t *occupied; /* [WORDS] a bit a day */
    uint32_t *next;     /* [sets] */
} Queue;

static inline void push(Queue *queue, int64_t at, uint32_t set) {
    uint32_t day = at & (YEAR - 1);
    queue->next[set] = queue->head[day];
    queue->head[day] = set;
    queue->occupied[day >> 6] |= 1ull << (day & 63);
}

/* The first occupied day at or after `day`, around the year; there must be one. */
static inline uint32_t next_day(const Queue *queue, uint32_t day) {
    uint32_t word = day >> 6;
    uint64_t bits = queue->occupied[word] & (~0ull << (day & 63));
    while (!bits) {
        word = (word + 1) & (WORDS - 1);
        bits = queue->occupied[word];
    }
    return word << 6 | (uint32_t)__builtin_ctzll(bits);
}

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
    Queue queue = {malloc(YEAR * sizeof *queue.head), calloc(WORDS, sizeof *queue.occupied), malloc(sets * sizeof *queue.next)};
    uint8_t *place = calloc(sets, 1); /* domains of each set that are done */
    Random random = {88172645463325252ull, 0, 0};
    uint32_t left[REGIONS], pending = 0;
    int64_t now = 0;
    int status = queue.head && queue.occupied && queue.next && place ? 0 : 1;
    if (status) goto out;

    memset(queue.head, 0xff, YEAR * sizeof *queue.head);
    for (int region = 0; region < REGIONS; region++) {
        left[region] = region_sets;
        if (region % 2) continue;
        for (uint32_t set = region * region_sets; set < (region + 1) * region_sets; set++) push(&queue, 0, set);
        pending += region_sets;
    }
    while (pending) {
        uint32_t day = next_day(&queue, now & (YEAR - 1));
        now += (day - now) & (YEAR - 1);
        uint32_t set;
        while ((set = queue.head[day]) != NONE) {
            queue.head[day] = queue.next[set];
            uint32_t domain = place[set];
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
            if (after_ms >= YEAR) { status = 2; goto out; }
            push(&queue, now + after_ms, set);
        }
        queue.occupied[day >> 6] &= ~(1ull << (day & 63));
    }
out:
    free(queue.head); free(queue.occupied); free(queue.next); free(place);
    return status;
}
