/* A binary heap in an array, as textbooks have it: an event is one word, its instant above its set, so that a compare is one
 * of numbers, and ties go by set. Room for every set, since each is in it once.
 */
enum { AHEAD_MAX = 0x7fffffff };

typedef struct {
    uint64_t *event; /* [sets + 1], from 1 on: those below i are 2 i and 2 i + 1 */
    uint32_t count;
} Queue;

static int queue_open(Queue *queue, uint32_t sets) {
    queue->event = malloc((sets + 1ull) * sizeof *queue->event);
    queue->count = 0;
    return queue->event != NULL;
}

static void queue_close(Queue *queue) {
    free(queue->event);
}

static inline void push(Queue *queue, int64_t at, uint32_t set) {
    uint64_t event = (uint64_t)at << 32 | set, *heap = queue->event;
    uint32_t place = ++queue->count;
    for (; place > 1 && event < heap[place / 2]; place /= 2) heap[place] = heap[place / 2];
    heap[place] = event;
}

/* The next set, and *now moved to when it is due; there must be one. */
static inline uint32_t pop(Queue *queue, int64_t *now) {
    uint64_t *heap = queue->event, first = heap[1], last = heap[queue->count--];
    uint32_t count = queue->count, place = 1, below;
    while ((below = 2 * place) <= count) {
        below += below < count && heap[below + 1] < heap[below];
        if (last <= heap[below]) break;
        heap[place] = heap[below];
        place = below;
    }
    heap[place] = last;
    *now = first >> 32;
    return (uint32_t)first;
}
