/* The driver's functions: devices, contexts, memory, copies, kernels. */
#define _GNU_SOURCE
#include "driver.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MOST_NESTED = 64 };
static __thread Context *stack[MOST_NESTED];
static __thread int depth;
static int initialized;
static Kernel *kernels;

Context *current(void) { return depth ? stack[depth - 1] : NULL; }

/* The current context, or the reason why nothing can be done. */
static int ready(Context **context) {
    if (!initialized) return NOT_INITIALIZED;
    *context = current();
    return *context ? (*context)->error : INVALID_CONTEXT;
}

int cuInit(unsigned flags) {
    (void)flags;
    if (!cards()) return NO_DEVICE;
    int result = python_start();
    initialized = !result;
    return result;
}

int cuDriverGetVersion(int *version) { return *version = 13000, SUCCESS; }
int cuDeviceGetCount(int *count) { return *count = cards(), SUCCESS; }
int cuDeviceGet(int *card, int number) {
    return *card = number, number < cards() ? SUCCESS : INVALID_DEVICE;
}
int cuDeviceGetName(char *name, int size, int card) {
    snprintf(name, (size_t)size, "Virtual card %c", 'A' + card);
    return SUCCESS;
}
int cuDeviceGetUuid_v2(unsigned char *uuid, int card) {
    memset(uuid, 0, 16);
    uuid[15] = (unsigned char)(card + 1);
    return SUCCESS;
}
int cuDeviceTotalMem_v2(size_t *bytes, int card) {
    (void)card;
    return *bytes = card_bytes(), SUCCESS;
}

/* Numbers of an H100 where a program asks for them. */
int cuDeviceGetAttribute(int *value, int attribute, int card) {
    static const int known[][2] = {
        {1, 1024}, {2, 1024}, {3, 1024}, {4, 64}, {5, 2147483647}, {6, 65535}, {7, 65535},
        {8, 49152}, {10, 32}, {12, 65536}, {13, 1980000}, {16, 132}, {31, 1}, {36, 2619000},
        {37, 5120}, {39, 2048}, {41, 1}, {75, 9}, {76, 0}, {81, 233472}, {82, 65536}, {97, MOST_SHARED_BYTES},
    };
    (void)card;
    *value = 0;
    for (size_t n = 0; n < sizeof known / sizeof *known; n++)
        if (known[n][0] == attribute) *value = known[n][1];
    return SUCCESS;
}

int cuDevicePrimaryCtxRetain(void **context, int card) {
    if (!initialized) return NOT_INITIALIZED;
    if (card < 0 || card >= cards()) return INVALID_DEVICE;
    contexts[card].users++;
    *context = &contexts[card];
    return SUCCESS;
}
int cuDevicePrimaryCtxRelease_v2(int card) { return contexts[card].users--, SUCCESS; }
int cuCtxPushCurrent_v2(void *context) {
    if (depth == MOST_NESTED) return INVALID_VALUE;
    stack[depth++] = context;
    return SUCCESS;
}
int cuCtxPopCurrent_v2(void **context) {
    if (!depth) return INVALID_CONTEXT;
    depth--;
    if (context) *context = stack[depth];
    return SUCCESS;
}
int cuCtxSetCurrent(void *context) {
    if (depth) depth--;
    if (context) stack[depth++] = context;
    return SUCCESS;
}
int cuCtxGetCurrent(void **context) { return *context = current(), SUCCESS; }
int cuCtxGetDevice(int *card) {
    if (!depth) return INVALID_CONTEXT;
    return *card = current()->card, SUCCESS;
}

int cuMemGetInfo_v2(size_t *available, size_t *total) {
    Context *context;
    int result = ready(&context);
    if (result) return result;
    *total = card_bytes();
    *available = *total - context->used;
    return SUCCESS;
}

int cuMemAlloc_v2(uintptr_t *address, size_t size) {
    Context *context;
    int result = ready(&context);
    if (!result) result = injected("allocate");
    return result ? result : allocate(size, context->card, (void **)address);
}

/* As the real one, it waits for the card: the memory may be in use. */
int cuMemFree_v2(uintptr_t address) {
    Context *context = current();
    if (!context) return INVALID_CONTEXT;
    drain_all(context->card, 1);
    int result = release((void *)address, 0);
    return context->error ? context->error : result;
}

int cuMemHostAlloc(void **address, size_t size, unsigned flags) {
    (void)flags;
    Context *context;
    int result = ready(&context);
    return result ? result : allocate(size, -1, address);
}

int cuMemFreeHost(void *address) {
    Context *context = current();
    if (!context) return INVALID_CONTEXT;
    drain_all(context->card, 1);
    return release(address, 1);
}

/* Queue a copy, and wait for it where that is promised: without a stream, or for host memory that
 * the card cannot reach by itself. Pageable memory that is sent is copied at once instead. */
static int copy(
    void *target, const void *source, size_t size, void *handle, int to_card, int waits) {
    Context *context;
    int result = ready(&context);
    if (!result) result = injected("copy");
    if (result) return result;
    const void *there = to_card ? target : source, *host = to_card ? source : target;
    Stream *stream = stream_of(context, handle);
    if (!stream || !on_card((uintptr_t)there, size, context->card)) return INVALID_VALUE;
    int direct = pinned(host, size);
    note("copy %s %s %s %zu", to_card ? "in" : "out", waits ? "at-once" : "queued",
         stream == &context->main ? "default" : direct ? "pinned" : "pageable", size);
    Work work = {.kind = COPY, .target = target, .source = source, .size = size};
    if (to_card && !direct && !waits) {
        work.parameters = malloc(size);
        work.source = memcpy(work.parameters, source, size);
    }
    if (stream == &context->main) result = drain_all(context->card, 0);
    append(stream, work);
    if (waits || stream == &context->main || (!to_card && !direct)) result = drain(stream);
    return result;
}

int cuMemcpyHtoD_v2(uintptr_t target, const void *source, size_t size) {
    return copy((void *)target, source, size, NULL, 1, 1);
}
int cuMemcpyDtoH_v2(void *target, uintptr_t source, size_t size) {
    return copy(target, (void *)source, size, NULL, 0, 1);
}
int cuMemcpyHtoDAsync_v2(uintptr_t target, const void *source, size_t size, void *stream) {
    return copy((void *)target, source, size, stream, 1, 0);
}
int cuMemcpyDtoHAsync_v2(void *target, uintptr_t source, size_t size, void *stream) {
    return copy(target, (void *)source, size, stream, 0, 0);
}

int cuMemsetD8Async(uintptr_t target, unsigned char value, size_t size, void *handle) {
    Context *context;
    int result = ready(&context);
    if (result) return result;
    Stream *stream = stream_of(context, handle);
    if (!stream || !on_card(target, size, context->card)) return INVALID_VALUE;
    note("fill %s %zu", stream == &context->main ? "default" : "stream", size);
    if (stream == &context->main) result = drain_all(context->card, 0);
    append(stream, (Work){.kind = FILL, .target = (void *)target, .size = size, .value = value});
    if (stream == &context->main) result = drain(stream);
    return result;
}
int cuMemsetD8_v2(uintptr_t target, unsigned char value, size_t size) {
    return cuMemsetD8Async(target, value, size, NULL);
}

int cuLibraryLoadData(void **library, const void *code, void *a, void *b, unsigned c, void *d,
                      void *e, unsigned f) {
    (void)a, (void)b, (void)c, (void)d, (void)e, (void)f;
    /* A cubin is an ELF file. */
    if (memcmp(code, "\177ELF", 4)) return INVALID_VALUE;
    /* Loading takes a while, in which other threads go on. */
    usleep(20000);
    *library = malloc(1);
    return SUCCESS;
}
int cuLibraryUnload(void *library) { return free(library), SUCCESS; }

int cuLibraryGetKernel(void **found, void *library, const char *name) {
    (void)library;
    Kernel *kernel = calloc(1, sizeof *kernel);
    int result = python_kernel(name, kernel);
    if (result) {
        free(kernel);
        return result;
    }
    kernel->name = strdup(name);
    kernel->shared = SHARED_BYTES;
    lock();
    kernel->next = kernels;
    kernels = kernel;
    unlock();
    *found = kernel;
    return SUCCESS;
}
int cuKernelGetFunction(void **function, void *kernel) { return *function = kernel, SUCCESS; }
int cuKernelGetName(const char **name, Kernel *kernel) { return *name = kernel->name, SUCCESS; }
int cuKernelGetAttribute(int *value, int attribute, Kernel *kernel, int card) {
    (void)attribute, (void)kernel, (void)card;
    return *value = 0, SUCCESS;
}
int cuKernelSetAttribute(int attribute, int value, Kernel *kernel, int card) {
    (void)card;
    if (attribute != MAX_DYNAMIC_SHARED || value < 0 || value > MOST_SHARED_BYTES)
        return INVALID_VALUE;
    note("shared memory %d", value);
    return kernel->shared = (unsigned)value, SUCCESS;
}
int cuFuncGetAttribute(int *value, int attribute, Kernel *kernel) {
    return cuKernelGetAttribute(value, attribute, kernel, 0);
}
int cuKernelGetParamInfo(Kernel *kernel, size_t number, size_t *offset, size_t *size) {
    if (number >= (size_t)kernel->count) return INVALID_VALUE;
    *offset = kernel->offsets[number];
    if (size) *size = kernel->sizes[number];
    return SUCCESS;
}

int cuLaunchKernel(Kernel *kernel, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by,
                   unsigned bz, unsigned shared, void *handle, void **values, void **extra) {
    Context *context;
    int result = ready(&context);
    if (result) return result;
    Stream *stream = stream_of(context, handle);
    if (!stream) return INVALID_HANDLE;
    if (!gx || !gy || gz != 1 || !bx || !by || bz != 1 || bx * by > 1024 || gy > 65535 || extra)
        return INVALID_VALUE;
    if (shared > kernel->shared) return INVALID_VALUE;
    note("launch %s %u x %u of %u x %u, %u bytes", stream == &context->main ? "default" : "stream",
         gx, gy, bx, by, shared);
    int last = kernel->count - 1;
    size_t size = last < 0 ? 0 : kernel->offsets[last] + kernel->sizes[last];
    Work work = {
        .kind = LAUNCH, .kernel = kernel, .size = size, .grid = {gx, gy, gz}, .block = {bx, by, bz}, .shared = shared,
        .parameters = calloc(1, size + 1),
    };
    for (int n = 0; n < kernel->count; n++)
        memcpy(work.parameters + kernel->offsets[n], values[n], kernel->sizes[n]);
    append(stream, work);
    return SUCCESS;
}

struct LaunchConfig {
    unsigned gx, gy, gz, bx, by, bz, shared;
    void *stream, *attributes;
    unsigned count;
};
int cuLaunchKernelEx(const struct LaunchConfig *c, Kernel *kernel, void **values, void **extra) {
    return cuLaunchKernel(kernel, c->gx, c->gy, c->gz, c->bx, c->by, c->bz, c->shared, c->stream,
                          values, extra);
}

/* cuda-core asks the driver for a name, numba-cuda's own calls have a list: which of the two meets
 * an error first differs from run to run, the name may not. */
static const struct { int error; const char *name; } NAMES[] = {
    {SUCCESS, "CUDA_SUCCESS"},
    {INVALID_VALUE, "CUDA_ERROR_INVALID_VALUE"},
    {OUT_OF_MEMORY, "CUDA_ERROR_OUT_OF_MEMORY"},
    {NOT_INITIALIZED, "CUDA_ERROR_NOT_INITIALIZED"},
    {NO_DEVICE, "CUDA_ERROR_NO_DEVICE"},
    {INVALID_DEVICE, "CUDA_ERROR_INVALID_DEVICE"},
    {INVALID_CONTEXT, "CUDA_ERROR_INVALID_CONTEXT"},
    {214, "CUDA_ERROR_ECC_UNCORRECTABLE"},
    {INVALID_HANDLE, "CUDA_ERROR_INVALID_HANDLE"},
    {NOT_FOUND, "CUDA_ERROR_NOT_FOUND"},
    {700, "CUDA_ERROR_ILLEGAL_ADDRESS"},
    {719, "CUDA_ERROR_LAUNCH_FAILED"},
};
int cuGetErrorName(int error, const char **text) {
    for (size_t n = 0; n < sizeof NAMES / sizeof *NAMES; n++)
        if (NAMES[n].error == error) return *text = NAMES[n].name, SUCCESS;
    return *text = NULL, INVALID_VALUE;
}
int cuGetErrorString(int error, const char **text) {
    static __thread char line[64];
    snprintf(line, sizeof line, "virtual card: error %d", error);
    return *text = line, SUCCESS;
}

/* What is not here is not found; programs that need it say its name. VIRTUAL_CARD_LACKS names one
 * more, as a driver would lack that is too old. */
int cuGetProcAddress_v2(const char *name, void **address, int version, uint64_t flags, int *status) {
    (void)version, (void)flags;
    char newer[128];
    snprintf(newer, sizeof newer, "%s_v2", name);
    const char *lacking = getenv("VIRTUAL_CARD_LACKS");
    Dl_info self;
    dladdr((void *)cuInit, &self);
    void *library = dlopen(self.dli_fname, RTLD_LAZY | RTLD_NOLOAD);
    *address = lacking && !strcmp(lacking, name) ? NULL : dlsym(library, newer);
    if (!*address && !(lacking && !strcmp(lacking, name))) *address = dlsym(library, name);
    dlclose(library);
    if (status) *status = *address ? 0 : 1;
    return *address ? SUCCESS : NOT_FOUND;
}
int cuGetProcAddress(const char *name, void **address, int version, uint64_t flags) {
    return cuGetProcAddress_v2(name, address, version, flags, NULL);
}
