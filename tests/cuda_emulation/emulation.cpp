// Runs the threads of a block as fibers on one core, one block after the other.
//
// Errors, not hangs: a barrier that live threads can never complete, a warp operation whose lanes
// stand at different places, a shuffle from an absent lane, a bad address, undefined behaviour
// (which -fsanitize turns into a trap). All leave the block by a jump back to launch().
#include "emulation.h"

#include <dlfcn.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string>
#include <sys/mman.h>
#include <ucontext.h>
#include <vector>

#define EXPORT extern "C" __attribute__((visibility("default")))

emulation::Index threadIdx, blockIdx, gridDim;

// Bounds of the section of __shared__ variables, which the linker defines if there are any.
extern uint32_t __start_cuda_shared[] __attribute__((weak, visibility("hidden")));
extern uint32_t __stop_cuda_shared[] __attribute__((weak, visibility("hidden")));

// Where a signal stopped a launch: its number, the address used, and the instruction's place in
// this library.
EXPORT int emulation_signal;
EXPORT uintptr_t emulation_address, emulation_instruction;
int emulation_signal;
uintptr_t emulation_address, emulation_instruction;

// Saves what a called function must preserve on this stack and goes on with another one. A few
// nanoseconds, where swapcontext calls the kernel.
#if !defined(__x86_64__)
#error "switch_context is written for x86-64 only; add this processor's here"
#endif
asm(R"(
    .text
    .p2align 4
switch_context:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
)");
extern "C" void switch_context(void **save, void *next) __asm__("switch_context");

namespace emulation {
namespace {

constexpr unsigned WARPS = BLOCK / WARP, NONE = ~0u;
constexpr const char *NAMES[] = {"__syncwarp", "__shfl_sync", "__shfl_up_sync", "__shfl_down_sync",
                                 "__shfl_xor_sync", "__ballot_sync", "__any_sync", "__all_sync",
                                 "__syncthreads"};
// NaN as float and as double, far out of any array as int.
constexpr uint32_t POISON = 0x7ffbadad;

struct Wait {
    Operation operation;
    unsigned mask, source;
    unsigned long long value;
    const char *file;
    int line;

    bool same_place(const Wait &other) const
    {
        return operation == other.operation && line == other.line &&
               (file == other.file || strcmp(file, other.file) == 0);
    }
    std::string place() const
    {
        return std::string(NAMES[operation]) + " (" + file + ":" + std::to_string(line) + ")";
    }
};

struct Warp {
    unsigned live, runnable, in_warp_operation, in_barrier;  // one bit per lane
    Wait wait[WARP];
    unsigned long long result[WARP];
};

using Context = void *;  // the stack pointer of a thread that waits

Warp warps[WARPS];
Context contexts[BLOCK], host;
bool have_fibers, running;
unsigned at_barrier, live;
uint64_t random_state;

const char *kernel_name;
void (*kernel_body)(void **);
void **kernel_arguments;
char error[4096];

uint64_t next_random()
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    return random_state ^= random_state << 17;
}

// A runnable thread: the next one in cyclic order, or any if there is a seed.
unsigned pick()
{
    const unsigned lane = threadIdx.x % WARP;
    unsigned warp = threadIdx.x / WARP;
    if (random_state) warp = next_random() % WARPS;
    for (unsigned k = 0; k < WARPS; ++k, warp = (warp + 1) % WARPS) {
        const unsigned runnable = warps[warp].runnable;
        if (!runnable) continue;
        unsigned after = runnable & ((random_state ? ~0u << next_random() % WARP : ~1u << lane));
        if (!random_state && k > 0) after = runnable;
        return warp * WARP + static_cast<unsigned>(__builtin_ctz(after ? after : runnable));
    }
    return NONE;
}

[[noreturn]] void deadlock()
{
    std::string places;
    for (const Warp &warp : warps) {
        unsigned left = warp.in_warp_operation | warp.in_barrier;
        while (left) {
            const Wait &first = warp.wait[__builtin_ctz(left)];
            unsigned here = 0;
            for (unsigned lane = 0; lane < WARP; ++lane)
                if (left >> lane & 1 && warp.wait[lane].same_place(first)) here |= 1u << lane;
            char text[64];
            snprintf(text, sizeof text, "; lanes %08x of warp %d wait at ", here,
                     static_cast<int>(&warp - warps));
            places += text + first.place();
            left &= ~here;
        }
    }
    fail("deadlock%s; lanes that left the kernel are not waited for", places.c_str());
}

void run_others()
{
    const unsigned self = threadIdx.x, next = pick();
    if (next == NONE) deadlock();
    if (next == self) return;
    threadIdx.x = next;
    switch_context(&contexts[self], contexts[next]);
}

// Ends a warp operation on `mask` if all its live lanes have arrived.
void complete_warp(Warp &warp, unsigned mask)
{
    const unsigned need = mask & warp.live;
    if (!need || (warp.in_warp_operation & need) != need) return;
    const Wait &first = warp.wait[__builtin_ctz(need)];
    unsigned long long ballot = 0;
    for (unsigned lane = 0; lane < WARP; ++lane) {
        if (!(need >> lane & 1)) continue;
        const Wait &wait = warp.wait[lane];
        if (!wait.same_place(first))
            fail("divergent warp: lane %d is at %s, lane %u at %s", __builtin_ctz(need),
                 first.place().c_str(), lane, wait.place().c_str());
        if (wait.mask != first.mask)
            fail("%s: mask %08x in lane %d, %08x in lane %u", first.place().c_str(), first.mask,
                 __builtin_ctz(need), wait.mask, lane);
        ballot |= static_cast<unsigned long long>(wait.value != 0) << lane;
    }
    const bool shuffles = first.operation >= SHFL && first.operation <= SHFL_XOR;
    for (unsigned lane = 0; lane < WARP; ++lane) {
        if (!(need >> lane & 1)) continue;
        const unsigned source = warp.wait[lane].source;
        if (shuffles && !(need >> source & 1))
            fail("%s: lane %u reads from lane %u, which %s", first.place().c_str(), lane, source,
                 warp.live >> source & 1 ? "is not in the mask" : "has left the kernel");
        warp.result[lane] = shuffles ? warp.wait[source].value : ballot;
    }
    warp.in_warp_operation &= ~need;
    warp.runnable |= need;
}

void complete_barrier()
{
    if (!at_barrier || at_barrier < live) return;
    const Wait *first = nullptr;
    for (Warp &warp : warps) {
        for (unsigned lane = 0; lane < WARP; ++lane) {
            if (!(warp.in_barrier >> lane & 1)) continue;
            if (!first) first = &warp.wait[lane];
            if (!warp.wait[lane].same_place(*first))
                fail("divergent block: some threads are at %s, others at %s", first->place().c_str(),
                     warp.wait[lane].place().c_str());
        }
        warp.runnable |= warp.in_barrier;
        warp.in_barrier = 0;
    }
    at_barrier = 0;
}

// What is left in the middle of the kernel is abandoned: new fibers take the old stacks.
[[noreturn]] void leave_block()
{
    void *unused;
    switch_context(&unused, host);
    __builtin_unreachable();
}

void leave_kernel()
{
    Warp &warp = warps[threadIdx.x / WARP];
    const unsigned bit = 1u << threadIdx.x % WARP;
    warp.live &= ~bit;
    warp.runnable &= ~bit;
    --live;
    for (unsigned lane = 0; lane < WARP; ++lane)
        if (warp.in_warp_operation >> lane & 1) complete_warp(warp, warp.wait[lane].mask);
    complete_barrier();
    if (live) {
        run_others();
    } else {
        switch_context(&contexts[threadIdx.x], host);
    }
}

// Runs its thread of one block after the other.
[[noreturn]] void fiber()
{
    for (;;) {
        kernel_body(kernel_arguments);
        leave_kernel();
    }
}

void make_fibers()
{
    constexpr size_t PAGE = 4096, STACK = 32 * PAGE;
    static char *stacks;
    if (!stacks) {
        stacks = static_cast<char *>(mmap(nullptr, BLOCK * STACK, PROT_READ | PROT_WRITE,
                                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
        for (size_t thread = 0; thread < BLOCK; ++thread)
            mprotect(stacks + thread * STACK, PAGE, PROT_NONE);
    }
    for (size_t thread = 0; thread < BLOCK; ++thread) {
        // Stacks that start at equal offsets would share a few sets of the cache.
        char *top = stacks + (thread + 1) * STACK - thread % WARP * (PAGE / WARP);
        void **stack = reinterpret_cast<void **>(top) - 8;  // as switch_context leaves it
        memset(stack, 0, 8 * sizeof(void *));
        stack[6] = reinterpret_cast<void *>(fiber);
        contexts[thread] = stack;
    }
    have_fibers = true;
}

// Returns whether the block came to its end.
bool run_block()
{
    for (uint32_t *word = __start_cuda_shared; word < __stop_cuda_shared; ++word) *word = POISON;
    for (Warp &warp : warps) {
        warp.live = warp.runnable = ~0u;
        warp.in_warp_operation = warp.in_barrier = 0;
    }
    live = BLOCK;
    at_barrier = 0;
    threadIdx.x = 0;
    if (random_state) threadIdx.x = pick();
    running = true;
    switch_context(&host, contexts[threadIdx.x]);
    running = false;
    return error[0] == 0 && emulation_signal == 0;
}

void handle_signal(int number, siginfo_t *info, void *where)
{
    if (!running) {
        signal(number, SIG_DFL);
        return;
    }
    const mcontext_t &machine = static_cast<ucontext_t *>(where)->uc_mcontext;
#if defined(__x86_64__)
    const uintptr_t instruction = static_cast<uintptr_t>(machine.gregs[REG_RIP]);
#elif defined(__aarch64__)
    const uintptr_t instruction = machine.pc;
#else
#error "where is the program counter of this processor?"
#endif
    Dl_info library;
    dladdr(reinterpret_cast<void *>(handle_signal), &library);
    emulation_signal = number;
    emulation_address = reinterpret_cast<uintptr_t>(info->si_addr);
    emulation_instruction = instruction - reinterpret_cast<uintptr_t>(library.dli_fbase);
    snprintf(error, sizeof error, "%s: thread %u of block %u", kernel_name, threadIdx.x, blockIdx.x);
    leave_block();
}

}  // namespace

void fail(const char *format, ...)
{
    const int used = snprintf(error, sizeof error, "%s: thread %u of block %u: ", kernel_name,
                              threadIdx.x, blockIdx.x);
    va_list values;
    va_start(values, format);
    vsnprintf(error + used, sizeof error - static_cast<size_t>(used), format, values);
    va_end(values);
    leave_block();
}

unsigned long long warp(Operation operation, unsigned mask, unsigned long long value,
                        unsigned source, const char *file, int line)
{
    Warp &warp = warps[threadIdx.x / WARP];
    const unsigned lane = threadIdx.x % WARP;
    warp.wait[lane] = {operation, mask, source, value, file, line};
    if (!(mask >> lane & 1))
        fail("%s: mask %08x lacks the calling lane", warp.wait[lane].place().c_str(), mask);
    warp.in_warp_operation |= 1u << lane;
    warp.runnable &= ~(1u << lane);
    complete_warp(warp, mask);
    if (random_state || !(warp.runnable >> lane & 1)) run_others();
    return warp.result[lane];
}

void block(const char *file, int line)
{
    Warp &warp = warps[threadIdx.x / WARP];
    const unsigned lane = threadIdx.x % WARP;
    warp.wait[lane] = {SYNCTHREADS, 0, 0, 0, file, line};
    warp.in_barrier |= 1u << lane;
    warp.runnable &= ~(1u << lane);
    ++at_barrier;
    complete_barrier();
    if (random_state || !(warp.runnable >> lane & 1)) run_others();
}

// Returns nullptr or what went wrong. A seed other than 0 asks for a random order of the blocks,
// and of the threads between barriers.
const char *launch(const char *kernel, void (*body)(void **), void **arguments, unsigned blocks,
                   unsigned long long seed)
{
    constexpr int SIGNALS[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL};
    static char signal_stack[1 << 16];
    stack_t ours = {}, previous_stack;
    ours.ss_sp = signal_stack;
    ours.ss_size = sizeof signal_stack;
    sigaltstack(&ours, &previous_stack);
    struct sigaction action = {}, previous[4];
    action.sa_sigaction = handle_signal;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
    for (int k = 0; k < 4; ++k) sigaction(SIGNALS[k], &action, &previous[k]);

    kernel_name = kernel;
    kernel_body = body;
    kernel_arguments = arguments;
    error[0] = 0;
    emulation_signal = 0;
    gridDim = {blocks, 1, 1};
    random_state = seed;
    std::vector<unsigned> order(blocks);
    for (unsigned k = 0; k < blocks; ++k) {
        order[k] = k;
        if (seed) std::swap(order[k], order[next_random() % (k + 1)]);
    }
    if (!have_fibers) make_fibers();
    for (unsigned index : order) {
        blockIdx.x = index;
        if (!run_block()) {
            have_fibers = false;  // left in the middle of the kernel
            break;
        }
    }

    for (int k = 0; k < 4; ++k) sigaction(SIGNALS[k], &previous[k], nullptr);
    sigaltstack(&previous_stack, nullptr);
    return error[0] ? error : nullptr;
}

}  // namespace emulation
