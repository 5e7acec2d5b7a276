/* The stub driver's way into Python, where the kernels run: the process that loads the driver holds
 * an interpreter, which imports virtual_card.harness. */
#include "driver.h"

#include <stdlib.h>
#include <string.h>

extern int PyGILState_Check(void);
extern int PyGILState_Ensure(void);
extern void PyGILState_Release(int);
extern void *PyEval_SaveThread(void);
extern void PyEval_RestoreThread(void *);
extern int PyRun_SimpleString(const char *);

typedef int (*KernelCallback)(const char *, int *, uint32_t *);
typedef int (*LaunchCallback)(
    int, int, const uint32_t *, const uint32_t *, const void *, size_t, unsigned);
typedef void (*MemoryCallback)(int, uintptr_t, size_t);
static struct { KernelCallback kernel; LaunchCallback launch; MemoryCallback memory; } python;

void virtual_card_callbacks(KernelCallback kernel, LaunchCallback launch, MemoryCallback memory) {
    python.kernel = kernel;
    python.launch = launch;
    python.memory = memory;
}

int python_start(void) {
    if (python.kernel) return SUCCESS;
    int state = PyGILState_Ensure();
    int failed = PyRun_SimpleString("from virtual_card import harness; harness.start()");
    PyGILState_Release(state);
    return failed || !python.kernel ? NOT_INITIALIZED : SUCCESS;
}

int python_kernel(const char *name, Kernel *kernel) {
    int offset = 0, count = 0;
    kernel->number = python.kernel(name, &count, kernel->sizes);
    if (kernel->number < 0 || count > MOST_PARAMETERS) return NOT_FOUND;
    kernel->count = count;
    for (int n = 0; n < count; n++) {
        int size = (int)kernel->sizes[n];
        offset = (offset + size - 1) / size * size;
        kernel->offsets[n] = (uint32_t)offset;
        offset += size;
    }
    return SUCCESS;
}

int python_launch(int card, const Work *work) {
    return python.launch(
        card, work->kernel->number, work->grid, work->block, work->parameters, work->size,
        work->shared);
}

void python_memory(int card, uintptr_t address, size_t size) {
    python.memory(card, address, size);
}

/* Let go of the interpreter while waiting for others who may need it; NULL where it is not held. */
void *python_leave(void) { return PyGILState_Check() ? PyEval_SaveThread() : NULL; }

void python_return(void *state) {
    if (state) PyEval_RestoreThread(state);
}
