/* What the parts of the stub driver share: results, contexts, streams, memory, queued work. */
#ifndef VIRTUAL_CARD_DRIVER_H
#define VIRTUAL_CARD_DRIVER_H

#include <stddef.h>
#include <stdint.h>

enum {
    SUCCESS = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, NOT_INITIALIZED = 3, NO_DEVICE = 100,
    INVALID_DEVICE = 101, INVALID_CONTEXT = 201, INVALID_HANDLE = 400, NOT_FOUND = 500,
    NOT_READY = 600, LAUNCH_OUT_OF_RESOURCES = 701, LAUNCH_FAILED = 719
};
enum { SHARED_BYTES = 48 * 1024, MOST_SHARED_BYTES = 227 * 1024, MAX_DYNAMIC_SHARED = 8 };
enum { MOST_CARDS = 8, MOST_PARAMETERS = 256 };

typedef struct Kernel {
    char *name;
    int number;
    int count;
    unsigned shared; /* most bytes of shared memory that a launch may ask for */
    uint32_t offsets[MOST_PARAMETERS], sizes[MOST_PARAMETERS];
    struct Kernel *next;
} Kernel;

enum Kind { COPY, FILL, LAUNCH, RECORD, AWAIT };

typedef struct Work {
    enum Kind kind;
    void *target;
    const void *source;
    size_t size;
    int value;
    Kernel *kernel;
    uint32_t grid[3], block[3];
    unsigned shared;
    unsigned char *parameters;
    struct Work *next;
} Work;

typedef struct Stream {
    int card;
    unsigned flags;
    Work *first, *last;
    struct Stream *next;
} Stream;

typedef struct Event {
    Stream *stream;
    int done;
} Event;

typedef struct Context {
    int card, users;
    int error; /* sticky: what every later call returns */
    Stream main;
    size_t used;
} Context;

typedef struct Block {
    uintptr_t start;
    size_t size;
    int card; /* -1: pinned host memory */
    struct Block *next;
} Block;

extern Context contexts[MOST_CARDS];

/* state.c: settings, locks, memory, injected errors, the log. */
int cards(void);
size_t card_bytes(void);
int injected(const char *what); /* the code to return from this call, 0 for none */
void note(const char *format, ...);
void lock(void);
void unlock(void);
Context *current(void);
int pinned(const void *address, size_t size);
int on_card(uintptr_t address, size_t size, int card);
int allocate(size_t size, int card, void **address);
int release(void *address, int is_pinned);

/* queue.c */
void append(Stream *stream, Work work);
int drain(Stream *stream);
int drain_all(int card, int also_apart);
Stream *stream_of(Context *context, void *handle);

/* python.c: the side that runs kernels. */
int python_start(void);
int python_kernel(const char *name, Kernel *kernel);
int python_launch(int card, const Work *work);
void python_memory(int card, uintptr_t address, size_t size);
void *python_leave(void);
void python_return(void *state);

#endif
