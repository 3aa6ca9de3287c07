"""The emulated CUDA device computes what CUDA defines, and stops at what CUDA leaves undefined."""

from __future__ import annotations

import numpy as np
import pytest

from cuda_emulation.device_memory import KernelError
from cuda_emulation.emulated_device import EmulatedDevice
from lmp_dp.engine.gpu.device import CaptureRefused

LANES = np.arange(32)
VALUES = np.arange(128, dtype=np.int32) * 7 + 3
INTEGERS = "const int *in, int *out"


def source_of(*bodies: str, parameters: str = INTEGERS) -> str:
    """Kernels test_0, test_1 ... with these bodies, which begin at line 2 of the "file" kernels."""
    kernel = (
        '#line 1 "kernels"\n'
        'extern "C" __global__ void __launch_bounds__(128) test_{number}({parameters}) {{\n'
        "{body}\n}}"
    )
    return "#define FULL 0xffffffffu\n" + "\n".join(
        kernel.format(number=number, parameters=parameters, body=body)
        for number, body in enumerate(bodies)
    )


def run(bodies: list[str], body: str, seed: int = 0) -> np.ndarray:
    """What the kernel with this body, one of those compiled together, makes of VALUES."""
    device = EmulatedDevice(source_of(*bodies), seed=seed)
    out = np.full(128, -1, np.int32)
    device.launch(device.compile(), f"test_{bodies.index(body)}", 1, VALUES, out)
    return out


def by_warp(values: np.ndarray, lanes: np.ndarray) -> np.ndarray:
    return values.reshape(4, 32)[:, lanes].ravel()


SHUFFLES = {
    "__shfl_sync(FULL, v, 5)": np.full(32, 5),
    "__shfl_sync(FULL, v, (t * 3 + 1) % 32)": (LANES * 3 + 1) % 32,
    "__shfl_sync(FULL, v, 2, 8)": LANES // 8 * 8 + 2,
    "__shfl_xor_sync(FULL, v, 16)": LANES ^ 16,
    "__shfl_xor_sync(FULL, v, 3, 16)": LANES ^ 3,
    "__shfl_down_sync(FULL, v, 4)": np.where(LANES + 4 < 32, LANES + 4, LANES),
    "__shfl_down_sync(FULL, v, 3, 8)": np.where(LANES % 8 + 3 < 8, LANES + 3, LANES),
    "__shfl_up_sync(FULL, v, 1)": np.maximum(LANES - 1, 0),
}


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("call", SHUFFLES)
def test_shuffles(call, seed):
    bodies = [f"int t = threadIdx.x, v = in[t]; out[t] = {c};" for c in SHUFFLES]
    out = run(bodies, bodies[list(SHUFFLES).index(call)], seed)
    np.testing.assert_array_equal(out, by_warp(VALUES, SHUFFLES[call]))


def test_shuffles_keep_all_bits():
    x = np.random.default_rng(0).integers(0, 256, 128 * 8, dtype=np.uint8)
    types = {"int": np.int32, "unsigned": np.uint32, "long long": np.int64}
    types |= {"float": np.float32, "double": np.float64}
    for c_type, dtype in types.items():
        source = source_of(
            "out[threadIdx.x] = __shfl_xor_sync(FULL, in[threadIdx.x], 1);",
            parameters="const TYPE *in, TYPE *out",
        )
        device = EmulatedDevice(source)
        values = x.view(dtype)[:128]
        out = np.empty_like(values)
        device.launch(device.compile(TYPE=c_type), "test_0", 1, values, out)
        assert out.tobytes() == by_warp(values, LANES ^ 1).tobytes()


def test_votes_and_bits():
    bodies = [
        "out[threadIdx.x] = __ballot_sync(FULL, in[threadIdx.x] % 3 == 0);",
        "for (int k = 0; k < 4; ++k) { const int limits[] = {3, 220, 250, 2000};"
        "  const int below = in[threadIdx.x] < limits[k];"
        "  const int any = __any_sync(FULL, below), all = __all_sync(FULL, below);"
        "  if (threadIdx.x % 32 == k) out[threadIdx.x] = 2 * any + all; }",
        "out[threadIdx.x] = __popc(in[threadIdx.x]);",
        "out[threadIdx.x] = __ffs(4 * in[threadIdx.x]);",
    ]
    ballot = ((VALUES % 3 == 0).reshape(4, 32) << LANES).sum(axis=1).astype(np.uint32)
    out = run(bodies, bodies[0])
    np.testing.assert_array_equal(out.view(np.uint32), np.repeat(ballot, 32))
    below = VALUES.reshape(4, 32, 1) < [3, 220, 250, 2000]
    votes = run(bodies, bodies[1]).reshape(4, 32)[:, :4]
    np.testing.assert_array_equal(votes, 2 * below.any(axis=1) + below.all(axis=1))
    ones = [v.bit_count() for v in VALUES.tolist()]
    np.testing.assert_array_equal(run(bodies, bodies[2]), ones)
    first = [(v & -v).bit_length() for v in (VALUES * 4).tolist()]
    np.testing.assert_array_equal(run(bodies, bodies[3]), first)


BLOCK_SUM = """
template <class T> __device__ __forceinline__ T warp_sum(T v)
{
#pragma unroll
    for (int d = 16; d > 0; d /= 2) v += __shfl_down_sync(0xffffffffu, v, d);
    return v;
}
extern "C" __global__ void __launch_bounds__(128)
block_sum(const REAL *__restrict__ in, /* values, */ long long n,
          REAL *__restrict__ out) // one per block
{
    __shared__ REAL part[4];
    const long long i = static_cast<long long>(blockIdx.x) * blockDim.x + threadIdx.x;
    const REAL v = warp_sum(i < n ? __ldg(in + i) : REAL(0));
    if (threadIdx.x % warpSize == 0) part[threadIdx.x / warpSize] = v;
    BARRIER
    if (threadIdx.x == 0) out[blockIdx.x] = part[0] + part[1] + part[2] + part[3];
}
"""


@pytest.mark.parametrize("seed", [0, 5])
@pytest.mark.parametrize(("c_type", "dtype"), [("float", np.float32), ("double", np.float64)])
def test_block_sum(c_type, dtype, seed):
    device = EmulatedDevice(BLOCK_SUM, seed=seed)
    module = device.compile(REAL=c_type, BARRIER="__syncthreads();")
    x = np.arange(1000, dtype=dtype)  # sums are exact in float as well
    out = np.empty(8, dtype)
    device.launch(module, "block_sum", 8, x, np.int64(1000), out)
    expected = np.pad(x, (0, 24)).reshape(8, 128).sum(axis=1)
    np.testing.assert_array_equal(out, expected)
    assert device.launches == {"block_sum": 1}


def test_a_forgotten_barrier_shows():
    device = EmulatedDevice(BLOCK_SUM)
    out = np.empty(1)
    device.launch(
        device.compile(REAL="double", BARRIER=""), "block_sum", 1, np.ones(128), np.int64(128), out
    )
    assert np.isnan(out[0])


def test_a_forgotten_warp_barrier_shows_with_a_seed():
    body = """
    __shared__ int copy[128];
    const int t = threadIdx.x;
    copy[t] = in[t];
    {barrier}
    out[t] = t % 32 ? copy[t - 1] : in[t];
    """
    bodies = [body.format(barrier=barrier) for barrier in ("__syncwarp();", "")]
    right, wrong = bodies
    expected = by_warp(VALUES, np.maximum(LANES - 1, 0))
    for seed in (0, 1, 2):
        np.testing.assert_array_equal(run(bodies, right, seed), expected)
    np.testing.assert_array_equal(run(bodies, wrong, 0), expected)
    assert any((run(bodies, wrong, seed) != expected).any() for seed in (1, 2))


def test_blocks_run_in_random_order_with_a_seed():
    source = source_of(
        "if (threadIdx.x == 0) out[blockIdx.x] = atomicAdd(count, 1);",
        parameters="int *count, int *out",
    )
    orders = []
    for seed in (0, 1, 2):
        device = EmulatedDevice(source, seed=seed)
        out = np.empty(50, np.int32)
        device.launch(device.compile(), "test_0", 50, np.zeros(1, np.int32), out)
        np.testing.assert_array_equal(np.sort(out), np.arange(50))
        orders.append(out.tolist())
    assert orders[0] == list(range(50))
    assert orders[1] != orders[0] != orders[2] != orders[1]


def test_atomics():
    types = {"int": np.int32, "unsigned": np.uint32, "unsigned long long": np.uint64}
    types |= {"float": np.float32, "double": np.float64}
    source = "".join(
        f'extern "C" __global__ void add_{number}({c_type} *total, {c_type} *old)'
        "{ old[threadIdx.x] = atomicAdd(total, 3); }\n"
        for number, c_type in enumerate(types)
    )
    source += source_of(
        "atomicMax(out, in[threadIdx.x]); atomicMin(out + 1, in[threadIdx.x] - 500);"
    )
    device = EmulatedDevice(source)
    module = device.compile()
    for number, dtype in enumerate(types.values()):
        total, old = np.full(1, 10, dtype), np.empty(128, dtype)
        device.launch(module, f"add_{number}", 1, total, old)
        assert total[0] == 10 + 3 * 128
        np.testing.assert_array_equal(np.sort(old), 10 + 3 * np.arange(128))
    out = np.zeros(2, np.int32)
    device.launch(module, "test_0", 1, VALUES, out)
    np.testing.assert_array_equal(out, [VALUES.max(), VALUES.min() - 500])


def test_conversions_saturate():
    x = np.array([-1.5, -0.0, 2.5, 3.5, 1e30, -1e30, np.nan, 2147483646.5])
    floor = [-2, 0, 2, 3, 2**31 - 1, -(2**31), 0, 2147483646]
    device = EmulatedDevice(
        source_of(
            "if (threadIdx.x < 8) { out[threadIdx.x] = __double2int_rd(in[threadIdx.x]);"
            "out[threadIdx.x + 8] = __float2int_rd(static_cast<float>(in[threadIdx.x])); }",
            parameters="const double *in, int *out",
        )
    )
    out = np.empty(16, np.int32)
    device.launch(device.compile(), "test_0", 1, x, out)
    np.testing.assert_array_equal(out[:8], floor)
    np.testing.assert_array_equal(out[8:], [*floor[:-1], 2**31 - 1])  # float rounds to 2^31


def test_mathematics():
    body = """
    REAL x = in[threadIdx.x];
    REAL y[] = {sqrt(x), rsqrt(x), tanh(x), exp(-x), expm1(x), log1p(x), fabs(-x), floor(x),
                fma(x, x, x), min(x, REAL(1)), max(x, REAL(1)), REAL(min(int(x), 2))};
    for (int k = 0; k < 12; ++k) out[12 * threadIdx.x + k] = y[k];
    """
    for c_type, dtype in (("float", np.float32), ("double", np.float64)):
        device = EmulatedDevice(source_of(body, parameters="const REAL *in, REAL *out"))
        x = np.linspace(0.01, 5, 128).astype(dtype)
        out = np.empty((128, 12), dtype)
        device.launch(device.compile(REAL=c_type), "test_0", 1, x, out)
        z = x.astype(np.float64)
        expected = [np.sqrt(z), 1 / np.sqrt(z), np.tanh(z), np.exp(-z), np.expm1(z), np.log1p(z)]
        expected += [z, np.floor(z), z * z + z, np.minimum(z, 1), np.maximum(z, 1)]
        expected += [np.minimum(np.trunc(z), 2)]
        # The C library's functions are within 2 ulp; rsqrt and NumPy's own add one each.
        np.testing.assert_allclose(out, np.stack(expected, 1), rtol=4 * np.finfo(dtype).eps)


def test_arithmetic_that_is_not_contracted():
    body = "out[threadIdx.x] = __dadd_rn(__dmul_rn(in[threadIdx.x], in[threadIdx.x]), in[128]);"
    device = EmulatedDevice(source_of(body, parameters="const double *in, double *out"))
    x = np.full(129, 1 + 2.0**-30)
    x[128] = -1 - 2.0**-29  # the square's last digit, 2^-60, is rounded away
    out = np.empty(128)
    device.launch(device.compile(), "test_0", 1, x, out)
    np.testing.assert_array_equal(out, 0)


def test_parts_of_warps_and_blocks():
    bodies = [
        # lanes that have left are not waited for
        "const int t = threadIdx.x; if (t >= 37) return; __syncthreads();"
        "out[t] = __popc(__ballot_sync(FULL, 1));",
        # two halves with masks of their own at different places
        "const int t = threadIdx.x, lane = t % 32;"
        "if (lane < 16) out[t] = __shfl_sync(0xffffu, in[t], 3);"
        "else { const int v = __shfl_sync(0xffff0000u, in[t], 20);"
        "       out[t] = __shfl_xor_sync(0xffff0000u, v + lane, 1); }",
    ]
    for seed in (0, 1):
        out = run(bodies, bodies[0], seed)
        np.testing.assert_array_equal(out, np.repeat([32, 5, -1], [32, 5, 91]))
        lower, upper = by_warp(VALUES, np.full(32, 3)), by_warp(VALUES, np.full(32, 20))
        expected = np.where(np.tile(LANES < 16, 4), lower, upper + np.tile(LANES ^ 1, 4))
        np.testing.assert_array_equal(run(bodies, bodies[1], seed), expected)


DIVERGENT = {
    "if (threadIdx.x % 32 < 7) __syncwarp(); __syncthreads();": (
        r"deadlock; lanes 0000007f of warp 0 wait at __syncwarp \(kernels:2\); "
        r"lanes ffffff80 of warp 0 wait at __syncthreads \(kernels:2\)"
    ),
    "if (threadIdx.x < 64) __syncthreads();\nelse __syncthreads();": (
        r"divergent block: some threads are at __syncthreads \(kernels:2\), "
        r"others at __syncthreads \(kernels:3\)"
    ),
    "int v;\nif (threadIdx.x < 40) v = __shfl_sync(FULL, 1, 0);\n"
    "else v = __shfl_sync(FULL, 2, 0);\nout[threadIdx.x] = v;": (
        r"divergent warp: lane 0 is at __shfl_sync \(kernels:3\), "
        r"lane 8 at __shfl_sync \(kernels:4\)"
    ),
    "for (int k = 0; k < (threadIdx.x == 3 ? 1 : 2); ++k) __syncwarp();\n"
    "out[threadIdx.x] = __any_sync(FULL, 1);": (
        "divergent warp: lane 0 is at __syncwarp .*, lane 3 at __any_sync"
    ),
    "if (threadIdx.x % 32 == 9) return;\nout[0] = __shfl_sync(FULL, 1, 9);": (
        r"__shfl_sync \(kernels:3\): lane 0 reads from lane 9, which has left the kernel"
    ),
    "if (threadIdx.x % 32 < 4) out[0] = __shfl_sync(0xfu, 1, 5); __syncthreads();": (
        "lane 0 reads from lane 5, which is not in the mask"
    ),
    "__syncwarp(threadIdx.x % 32 == 8 ? ~3u : ~0u);": (
        r"__syncwarp \(kernels:2\): mask ffffffff in lane 0, fffffffc in lane 8"
    ),
    "__syncwarp(0xffu);": "mask 000000ff lacks the calling lane",
    "assert(in[threadIdx.x] < 800);": r"assertion failed at kernels:2: in\[threadIdx.x\] < 800",
}


@pytest.mark.parametrize("seed", [0, 3])
@pytest.mark.parametrize("body", DIVERGENT)
def test_divergence_is_an_error(body, seed):
    number = list(DIVERGENT).index(body)
    with pytest.raises(KernelError, match=DIVERGENT[body]) as error:
        run(list(DIVERGENT), body, seed)
    assert str(error.value).startswith(f"test_{number}: thread ")


UNDEFINED = {
    "out[threadIdx.x] = in[threadIdx.x + 1];": "thread 127 .* 512 bytes into 'in' .* kernels:2$",
    "out[threadIdx.x + in[0] - 2] = 0;": "thread 127 .* 512 bytes into 'out' .* kernels:2$",
    "out[static_cast<int>(threadIdx.x) - in[0]] = 0;": "writes in front of an array",
    "out[threadIdx.x + (1LL << 32) * in[1]] = 1;": "outside all arrays at kernels:2$",
    "__shared__ int s[8]; s[threadIdx.x % 8] = 1; __syncthreads();\n"
    "if (threadIdx.x < 121) out[threadIdx.x] = s[threadIdx.x / 15];": (
        r"thread 120 .* undefined behaviour .* at kernels:3$"
    ),
    "out[threadIdx.x] = 2000000000 + 1000000 * in[threadIdx.x];": "undefined .* at kernels:2$",
    "out[threadIdx.x] = int(1e8 * in[threadIdx.x]);": "thread 3 .* undefined .* at kernels:2$",
    "struct __align__(16) Record { int k[4]; };\n"
    "out[threadIdx.x] = reinterpret_cast<const Record *>(in + threadIdx.x % 16)->k[0];": (
        "thread 1 .* undefined .* at kernels:3$"
    ),
    "out[threadIdx.x] = 1 / (in[threadIdx.x] - 73);": "thread 10 .* undefined .* at kernels:2$",
}


@pytest.mark.parametrize("body", UNDEFINED)
def test_what_is_undefined_is_an_error(body):
    with pytest.raises(KernelError, match=UNDEFINED[body]):
        run(list(UNDEFINED), body)


def test_launches_after_an_error():
    device = EmulatedDevice(
        source_of(
            "if (in[threadIdx.x] < 0) __syncthreads(); else __syncwarp();"
            "out[threadIdx.x] = in[threadIdx.x]; __syncwarp();"
        )
    )
    module = device.compile()
    for _ in range(3):
        out = np.full(128, -1, np.int32)
        with pytest.raises(KernelError, match="deadlock"):
            device.launch(module, "test_0", 1, VALUES - 20, out)
        assert (out == -1).all()
        device.launch(module, "test_0", 1, VALUES, out)
        np.testing.assert_array_equal(out, VALUES)


TYPED = source_of(
    "if (threadIdx.x == 0) { out[0] = n + m + x + y + r + flags[0]; bits[1] = bits[0]; }",
    parameters="const char *flags, unsigned *bits, long long n, int m, double x, float y, REAL r,"
    "double *__restrict__ out",
)


def typed_arguments() -> dict[str, object]:
    return {
        "flags": np.ones(3, np.int8),
        "bits": np.ones(2, np.uint32),
        "n": np.int64(1),
        "m": np.int32(2),
        "x": np.float64(4),
        "y": np.float32(8),
        "r": np.float32(16),
        "out": np.zeros(1),
    }


def test_arguments_of_the_right_types():
    device = EmulatedDevice(TYPED)
    arguments = typed_arguments()
    device.launch(device.compile(REAL="float"), "test_0", 1, *arguments.values())
    assert arguments["out"][0] == 32
    device.launch(device.compile(REAL="float"), "test_0", 0, *arguments.values())
    assert device.launches["test_0"] == 1


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("flags", np.ones(3, np.int32), "array of int8 or uint8 or bool.* expected, not of int32"),
        ("bits", np.ones(2, np.int32), "an array of uint32 is expected, not of int32"),
        ("n", np.int32(1), "numpy.int64 is expected, not .*int32"),
        ("n", 1, r"numpy.int64 is expected, not 1 \(int\)"),
        ("m", np.int64(1), "numpy.int32 is expected, not .*int64"),
        ("x", 4.0, r"numpy.float64 is expected, not 4.0 \(float\)"),
        ("y", np.float64(4), "numpy.float32 is expected"),
        ("r", np.float64(4), "numpy.float32 is expected"),
        ("out", np.float64(4), "an array of float64 is expected, not float64"),
        ("out", np.zeros(4)[::2], "not C-contiguous"),
        ("out", np.zeros(1, np.float32), "an array of float64 is expected, not of float32"),
        ("out", np.broadcast_to(np.zeros(1), (1,)), "read-only"),
    ],
)
def test_arguments_of_wrong_types(name, value, message):
    device = EmulatedDevice(TYPED)
    arguments = typed_arguments() | {name: value}
    module = device.compile(REAL="float")
    with pytest.raises(TypeError, match=f"^test_0: argument '{name}': .*{message}"):
        device.launch(module, "test_0", 1, *arguments.values())


def test_number_of_arguments_and_names():
    device = EmulatedDevice(TYPED)
    module = device.compile(REAL="float")
    with pytest.raises(TypeError, match="test_0: 8 arguments expected, 7 given"):
        device.launch(module, "test_0", 1, *list(typed_arguments().values())[:-1])
    with pytest.raises(ValueError, match="no kernel 'tset', there are test_0"):
        device.launch(module, "tset", 1)


def test_a_kernel_that_cannot_be_parsed():
    with pytest.raises(ValueError, match="not of the form"):
        EmulatedDevice("__global__ void test(int *a) {}").compile()
    with pytest.raises(RuntimeError, match="no_such_function"):
        EmulatedDevice(source_of("no_such_function();")).compile()


def test_views_of_one_buffer():
    """Neighbouring views are apart; the same memory given twice is one memory."""
    device = EmulatedDevice(source_of("out[threadIdx.x] += in[threadIdx.x];"))
    module = device.compile()
    buffer = np.concatenate([VALUES, VALUES * 2])
    device.launch(module, "test_0", 1, buffer[:128], buffer[128:])
    np.testing.assert_array_equal(buffer, np.concatenate([VALUES, VALUES * 3]))
    device.launch(module, "test_0", 1, buffer, buffer[:128])
    np.testing.assert_array_equal(buffer[:128], VALUES * 2)


def test_overlap_of_a_restricted_pointer():
    device = EmulatedDevice(source_of("", parameters="const int *__restrict__ in, int *out"))
    module = device.compile()
    device.launch(module, "test_0", 1, VALUES[:10], VALUES[10:])
    with pytest.raises(ValueError, match="in, out overlap"):
        device.launch(module, "test_0", 1, VALUES[:11], VALUES[10:])


def test_empty_arrays():
    device = EmulatedDevice(source_of("if (in) out[threadIdx.x] = 1;"))
    out = np.zeros(128, np.int32)
    device.launch(device.compile(), "test_0", 1, np.empty(0, np.int32), out)
    assert out.all()


def test_memory():
    device = EmulatedDevice("")
    host = np.arange(12.0).reshape(3, 4).T
    copy = device.upload(host)
    assert copy.flags.c_contiguous
    np.testing.assert_array_equal(device.download(copy), host)
    copy[0] = 7
    again = device.download(copy)
    again[0] = 8
    np.testing.assert_array_equal(device.download(copy[0]), 7)
    np.testing.assert_array_equal(host[0], [0, 4, 8])


def test_all_arrays_are_counted():
    device = EmulatedDevice("")
    xp, memory = device.xp, device.memory
    before = memory.used  # cuBLAS's
    a = xp.zeros(100)
    view = a[10:20]
    assert memory.used - before == device.upload(np.zeros(100)).nbytes == 800
    made = {
        "a ufunc's": (a + 1, 800),
        "a ufunc's, in place": (xp.multiply(a, 2, out=a), 0),
        "an index's": (a[[3, 1]], 16),
        "an array of indices": (a[xp.arange(10)], 80),
        "a method's": (a.astype(np.float32), 400),
        "a view's": (a.reshape(10, 10).T, 0),
        "another order's": (a.reshape(10, 10).T.ravel(), 800),
        "a function's": (xp.concatenate([a, view]), 880),
        "of the host's": (xp.asarray(np.arange(5)), 40),
        "a number": (a.sum(), 8),
    }
    assert memory.used - before == 800 + sum(n_bytes for _, n_bytes in made.values())
    del made, a
    assert memory.used - before == 800
    del view
    assert memory.used == before


def test_the_ceiling_of_memory():
    device = EmulatedDevice("")
    xp, memory = device.xp, device.memory
    memory.ceiling = memory.used + 10_000
    a = xp.zeros(500)
    used = memory.used
    assert device.free_bytes() == 6000
    host = np.zeros(1000)
    for too_large in (
        lambda: xp.empty(751),
        lambda: device.upload(host),
        lambda: xp.concatenate([a, a]),
        lambda: a[:, None] + a,
        lambda: xp.argsort(a[:400]),  # it has copies besides the 3200 bytes of its result
    ):
        with pytest.raises(MemoryError, match=r"\d+ bytes asked for, 6000 are free") as short:
            too_large()
        assert device.ran_out_of_memory(short.value)
        del short
        assert memory.used == used
    with pytest.raises(MemoryError) as of_the_host:
        np.empty(1 << 55)
    assert not device.ran_out_of_memory(of_the_host.value)
    assert memory.peak == used


def test_copies_last_until_the_device_is_waited_for():
    device = EmulatedDevice("")
    up, down = device.pinned(32).view(np.float64), device.pinned(32).view(np.float64)
    up[:] = [1, 2, 3, 4]
    array = device.xp.zeros(4)
    device.send(up, array)
    device.fetch(array, down)
    array[:] = 7  # behind the copy in the device's order
    assert np.isnan(down).all()
    device.synchronize()
    np.testing.assert_array_equal(down, [1, 2, 3, 4])
    assert device.copies == {"send": 1, "fetch": 1}
    assert device.copied == {"send": 32, "fetch": 32}
    assert device.waits == 1


def test_memory_that_is_changed_while_it_is_copied():
    device = EmulatedDevice("")
    up = device.pinned(32).view(np.float64)
    array = device.xp.zeros(4)
    up[:] = 1
    device.send(up, array)
    up[2] = 5
    with pytest.raises(KernelError, match="changed while a copy of it was under way"):
        device.synchronize()
    device.synchronize()
    up[2] = 6  # nothing is under way


def test_copies_that_are_refused():
    device = EmulatedDevice("")
    array, pinned = device.xp.zeros(4), device.pinned(32).view(np.float64)
    with pytest.raises(ValueError, match="not pinned"):
        device.send(np.zeros(4), array)
    with pytest.raises(ValueError, match="not pinned"):
        device.fetch(array, np.zeros(4))
    with pytest.raises(ValueError, match=r"\(4,\) float64, \(3,\) float64"):
        device.send(pinned[:3], array)
    with pytest.raises(ValueError, match="not C-contiguous"):
        device.send(pinned[:2], array[::2])
    for copy in (
        lambda: device.send(pinned, array),
        lambda: device.fetch(array, pinned),
        lambda: device.pinned(8),
    ):
        with pytest.raises(CaptureRefused, match="while a stream is captured"):
            device.record(copy)


def test_a_device_that_is_not_the_threads_own():
    one, other = EmulatedDevice(""), EmulatedDevice("")
    array = other.xp.zeros(3)
    for work in (lambda: one.xp.zeros(3), lambda: one.upload(np.ones(2)), one.synchronize):
        with pytest.raises(KernelError, match="not the calling thread's current one"):
            work()
    one.use()
    one.upload(np.ones(2))
    with pytest.raises(KernelError, match="not the calling thread's current one"):
        array[...] = 1
