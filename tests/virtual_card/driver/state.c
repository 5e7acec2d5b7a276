/* Settings, memory and errors of the stub driver.
 *
 * VIRTUAL_CARD_COUNT: number of cards; VIRTUAL_CARD_BYTES: memory of each; VIRTUAL_CARD_FAIL:
 * errors to return, such as "launch:3:700,allocate:5:2" for the third launch and the fifth
 * allocation; VIRTUAL_CARD_LOG: a file that gets a line for each call that moves data or computes.
 */
#include "driver.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { GAP = 256 }; /* bytes behind each allocation that belong to nobody */

static pthread_mutex_t everything;
static Block *blocks;
static struct { char name[16]; int calls; } counts[8];
Context contexts[MOST_CARDS];

__attribute__((constructor)) static void prepare(void) {
    pthread_mutexattr_t kind;
    pthread_mutexattr_init(&kind);
    pthread_mutexattr_settype(&kind, PTHREAD_MUTEX_RECURSIVE);
    pthread_mutex_init(&everything, &kind);
    for (int n = 0; n < MOST_CARDS; n++) contexts[n].card = contexts[n].main.card = n;
}

/* Kernels run in Python while this is held: whoever waits for it must not keep the interpreter. */
void lock(void) {
    void *state = python_leave();
    pthread_mutex_lock(&everything);
    python_return(state);
}
void unlock(void) { pthread_mutex_unlock(&everything); }

int cards(void) {
    const char *visible = getenv("CUDA_VISIBLE_DEVICES"), *wanted = getenv("VIRTUAL_CARD_COUNT");
    if (visible && !*visible) return 0;
    int found = wanted ? atoi(wanted) : 1;
    return found < MOST_CARDS ? found : MOST_CARDS;
}

size_t card_bytes(void) {
    const char *wanted = getenv("VIRTUAL_CARD_BYTES");
    return wanted ? strtoull(wanted, NULL, 10) : (size_t)1 << 30;
}

int injected(const char *what) {
    const char *wanted = getenv("VIRTUAL_CARD_FAIL");
    if (!wanted) return SUCCESS;
    lock();
    int n = 0, code = SUCCESS;
    while (counts[n].name[0] && strcmp(counts[n].name, what)) n++;
    strncpy(counts[n].name, what, sizeof counts[n].name - 1);
    int call = ++counts[n].calls;
    unlock();
    for (const char *at = wanted; at; at = strchr(at, ',') ? strchr(at, ',') + 1 : NULL) {
        char name[16];
        int number, result;
        if (sscanf(at, "%15[a-z]:%d:%d", name, &number, &result) == 3 && !strcmp(name, what)
            && number == call)
            code = result;
    }
    return code;
}

void note(const char *format, ...) {
    const char *path = getenv("VIRTUAL_CARD_LOG");
    if (!path) return;
    char line[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    FILE *file = fopen(path, "a");
    if (!file) return;
    fprintf(file, "%d %s\n", (int)getpid(), line);
    fclose(file);
}

static Block *holding(uintptr_t address, size_t size) {
    for (Block *block = blocks; block; block = block->next)
        if (block->start <= address && address + size <= block->start + block->size) return block;
    return NULL;
}

int pinned(const void *address, size_t size) {
    lock();
    Block *block = holding((uintptr_t)address, size);
    int found = block && block->card < 0;
    unlock();
    return found;
}

int on_card(uintptr_t address, size_t size, int card) {
    lock();
    Block *block = holding(address, size);
    int found = block && block->card == card;
    unlock();
    return found;
}

/* Memory starts as 0xff, which is NaN: what is read before it is written shows. */
int allocate(size_t size, int card, void **address) {
    if (!size) return INVALID_VALUE;
    lock();
    int result = SUCCESS;
    if (card >= 0 && contexts[card].used + size > card_bytes()) result = OUT_OF_MEMORY;
    if (!result && posix_memalign(address, 256, size + GAP)) result = OUT_OF_MEMORY;
    if (!result) {
        memset(*address, 0xff, size + GAP);
        Block *block = malloc(sizeof *block);
        *block = (Block){(uintptr_t)*address, size, card, blocks};
        blocks = block;
        if (card >= 0) contexts[card].used += size;
    }
    if (!result && card >= 0) python_memory(card, (uintptr_t)*address, size);
    unlock();
    return result;
}

int release(void *address, int is_pinned) {
    lock();
    Block **at = &blocks;
    while (*at && (*at)->start != (uintptr_t)address) at = &(*at)->next;
    Block *block = *at;
    int wrong = !block || (block->card < 0) != is_pinned;
    if (!wrong) {
        *at = block->next;
        if (block->card >= 0) {
            contexts[block->card].used -= block->size;
            python_memory(block->card, block->start, 0);
        }
    }
    unlock();
    if (wrong) return INVALID_VALUE;
    /* Writes that come later, and reads, find nothing there that they expect. */
    memset(address, 0xff, block->size);
    free(address);
    free(block);
    return SUCCESS;
}
