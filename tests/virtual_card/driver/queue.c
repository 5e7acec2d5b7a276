/* Work queued on streams. It runs as late as the driver's promises allow: when somebody waits for
 * it, so that a program that forgets to wait reads what was there before. */
#include "driver.h"

#include <stdlib.h>
#include <string.h>

static Stream *streams;

void append(Stream *stream, Work work) {
    Work *copy = malloc(sizeof *copy);
    *copy = work;
    copy->next = NULL;
    lock();
    if (stream->last) stream->last->next = copy;
    else stream->first = copy;
    stream->last = copy;
    unlock();
}

static Work *take(Stream *stream) {
    lock();
    Work *work = stream->first;
    if (work) {
        stream->first = work->next;
        if (!stream->first) stream->last = NULL;
    }
    unlock();
    return work;
}

static int run(Stream *stream, Work *work) {
    int result = SUCCESS;
    switch (work->kind) {
    case COPY: memcpy(work->target, work->source, work->size); break;
    case FILL:
        if (work->size && work->value >= 0) memset(work->target, work->value, work->size);
        break;
    case LAUNCH:
        result = injected("launch");
        if (!result) result = python_launch(stream->card, work);
        break;
    case RECORD: ((Event *)work->target)->done = 1; break;
    case AWAIT:
        if (!((Event *)work->target)->done) result = drain(((Event *)work->target)->stream);
        break;
    }
    free(work->parameters);
    free(work);
    return result;
}

/* Run what is queued on a stream, in order. An error ends everything on the card. */
int drain(Stream *stream) {
    Context *context = &contexts[stream->card];
    lock();
    for (Work *work; (work = take(stream));) {
        if (context->error) {
            free(work->parameters);
            free(work);
            continue;
        }
        int result = run(stream, work);
        if (result) context->error = result;
    }
    unlock();
    return context->error;
}

/* Streams made with flag 1 do not wait for the default stream, nor it for them. */
int drain_all(int card, int also_apart) {
    lock();
    for (Stream *stream = streams; stream; stream = stream->next)
        if (stream->card == card && (also_apart || !(stream->flags & 1))) drain(stream);
    drain(&contexts[card].main);
    unlock();
    return contexts[card].error;
}

Stream *stream_of(Context *context, void *handle) {
    /* 0 and 1: the default stream of the context. */
    if ((uintptr_t)handle <= 1) return &context->main;
    lock();
    Stream *found = streams;
    while (found && (found != handle || found->card != context->card)) found = found->next;
    unlock();
    return found;
}

int cuStreamCreate(void **handle, unsigned flags) {
    Context *context = current();
    if (!context) return INVALID_CONTEXT;
    if (context->error) return context->error;
    Stream *stream = calloc(1, sizeof *stream);
    stream->card = context->card;
    stream->flags = flags;
    lock();
    stream->next = streams;
    streams = stream;
    unlock();
    *handle = stream;
    return SUCCESS;
}

int cuStreamCreateWithPriority(void **handle, unsigned flags, int priority) {
    (void)priority;
    return cuStreamCreate(handle, flags);
}

int cuStreamDestroy_v2(void *handle) {
    lock();
    Stream **at = &streams;
    while (*at && *at != handle) at = &(*at)->next;
    Stream *found = *at;
    if (found) {
        drain(found);
        *at = found->next;
        free(found);
    }
    unlock();
    return found ? SUCCESS : INVALID_HANDLE;
}

int cuStreamSynchronize(void *handle) {
    Context *context = current();
    if (!context) return INVALID_CONTEXT;
    Stream *stream = stream_of(context, handle);
    if (!stream) return INVALID_HANDLE;
    note("wait %s", stream == &context->main ? "default" : "stream");
    int result = injected("wait");
    if (result) context->error = result;
    if (!result) result = stream == &context->main ? drain_all(context->card, 0) : drain(stream);
    return result;
}

int cuStreamQuery(void *handle) {
    Context *context = current();
    Stream *stream = context ? stream_of(context, handle) : NULL;
    if (!stream) return INVALID_HANDLE;
    return context->error ? context->error : stream->first ? NOT_READY : SUCCESS;
}

int cuStreamGetFlags(void *handle, unsigned *flags) {
    Context *context = current();
    Stream *stream = context ? stream_of(context, handle) : NULL;
    if (!stream) return INVALID_HANDLE;
    *flags = stream->flags;
    return SUCCESS;
}

int cuStreamGetCtx(void *handle, void **found) {
    Context *context = current();
    Stream *stream = context ? stream_of(context, handle) : NULL;
    if (!stream) return INVALID_HANDLE;
    *found = &contexts[stream->card];
    return SUCCESS;
}

int cuStreamIsCapturing(void *handle, int *status) {
    (void)handle;
    *status = 0;
    return SUCCESS;
}

int cuCtxSynchronize(void) {
    Context *context = current();
    if (!context) return INVALID_CONTEXT;
    return drain_all(context->card, 1);
}
