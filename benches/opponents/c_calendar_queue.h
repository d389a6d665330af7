/* A calendar queue: a year of 2^21 days of 1 ms, each day a list of the sets that are due on it.
 *
 * A day is one instant, and no event lies a year ahead, so a day needs no order; a bit a day lets the search skip
 * empty ones 64 at a time. A set is in the queue once, so its list is an array of links.
 */
enum { NONE = 0xffffffff, YEAR = 1 << 21, WORDS = YEAR / 64, AHEAD_MAX = YEAR - 1 };

typedef struct {
    uint32_t *head;     /* [YEAR] first set of each day */
    uint64_t *occupied; /* [WORDS] a bit a day */
    uint32_t *next;     /* [sets] */
} Queue;

static int queue_open(Queue *queue, uint32_t sets) {
    queue->head = malloc(YEAR * sizeof *queue->head);
    queue->occupied = calloc(WORDS, sizeof *queue->occupied);
    queue->next = malloc(sets * sizeof *queue->next);
    if (!queue->head || !queue->occupied || !queue->next) return 0;
    memset(queue->head, 0xff, YEAR * sizeof *queue->head);
    return 1;
}

static void queue_close(Queue *queue) {
    free(queue->head); free(queue->occupied); free(queue->next);
}

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

/* The next set, and *now moved to when it is due; there must be one. */
static inline uint32_t pop(Queue *queue, int64_t *now) {
    uint32_t day = *now & (YEAR - 1), set = queue->head[day];
    if (set == NONE) {
        queue->occupied[day >> 6] &= ~(1ull << (day & 63));
        day = next_day(queue, day);
        *now += (day - *now) & (YEAR - 1);
        set = queue->head[day];
    }
    queue->head[day] = queue->next[set];
    return set;
}
