// What lmp_dp calls of cuBLAS, with its C interface and its rules, on host memory.
//
// A capturing stream keeps products instead of making them, and refuses those that would need memory of cuBLAS's own.
// Addresses of streams mean nothing here but which stream it is; the standin_ functions are for tests.

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <set>
#include <vector>

namespace {

enum Status { SUCCESS = 0, NOT_INITIALIZED = 1, ALLOC_FAILED = 3, INVALID_VALUE = 7, NOT_SUPPORTED = 15 };

struct Context {
  void *stream = nullptr;
  char *workspace = nullptr;  // nullptr: cuBLAS's own
  size_t size = 0;
};

std::mutex lock;
std::set<Context *> contexts;
std::map<void *, std::vector<std::function<void()>>> captures;

bool known(void *handle) { return contexts.count(static_cast<Context *>(handle)) > 0; }

// C = alpha A B + beta C; column by column, the products of each number in the order of k.
template <class T>
void product(int m, int n, int k, T alpha, const T *a, int lda, const T *b, int ldb, T beta, T *c, int ldc)
{
  for (int j = 0; j < n; j++) {
    T *column = c + static_cast<size_t>(j) * ldc;
    for (int i = 0; i < m; i++) column[i] = beta == 0 ? T(0) : beta * column[i];
    for (int l = 0; l < k; l++) {
      const T factor = alpha * b[static_cast<size_t>(j) * ldb + l];
      const T *from = a + static_cast<size_t>(l) * lda;
      for (int i = 0; i < m; i++) column[i] += factor * from[i];
    }
  }
}

template <class T>
int gemm(void *handle, int transpose_a, int transpose_b, int m, int n, int k, const T *alpha, const T *a, int lda,
         const T *b, int ldb, const T *beta, T *c, int ldc)
{
  const std::lock_guard<std::mutex> guard(lock);
  if (!known(handle)) return NOT_INITIALIZED;
  if (transpose_a || transpose_b) return NOT_SUPPORTED;  // no one asks for it
  if (m < 0 || n < 0 || k < 0 || !alpha || !beta) return INVALID_VALUE;
  if (lda < (m > 1 ? m : 1) || ldb < (k > 1 ? k : 1) || ldc < (m > 1 ? m : 1)) return INVALID_VALUE;
  if (m == 0 || n == 0) return SUCCESS;
  if (!c || (k && (!a || !b))) return INVALID_VALUE;
  const Context &context = *static_cast<Context *>(handle);
  const auto work = [=, alpha = *alpha, beta = *beta] {
    if (context.workspace) context.workspace[0] = context.workspace[context.size - 1] = 1;
    product(m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
  };
  const auto capture = captures.find(context.stream);
  if (capture == captures.end()) {
    work();
    return SUCCESS;
  }
  if (!context.workspace) return NOT_SUPPORTED;
  capture->second.push_back(work);
  return SUCCESS;
}

}  // namespace

#define API extern "C" __attribute__((visibility("default")))

API int cublasCreate_v2(void **handle)
{
  const std::lock_guard<std::mutex> guard(lock);
  if (!handle) return INVALID_VALUE;
  *handle = *contexts.insert(new Context).first;
  return SUCCESS;
}
API int cublasDestroy_v2(void *handle)
{
  const std::lock_guard<std::mutex> guard(lock);
  if (!known(handle)) return NOT_INITIALIZED;
  contexts.erase(static_cast<Context *>(handle));
  delete static_cast<Context *>(handle);
  return SUCCESS;
}
API int cublasSetStream_v2(void *handle, void *stream)
{
  const std::lock_guard<std::mutex> guard(lock);
  if (!known(handle)) return NOT_INITIALIZED;
  *static_cast<Context *>(handle) = {stream};  // the workspace is cuBLAS's own again
  return SUCCESS;
}
API int cublasSetWorkspace_v2(void *handle, void *workspace, size_t size)
{
  const std::lock_guard<std::mutex> guard(lock);
  if (!known(handle)) return NOT_INITIALIZED;
  if (reinterpret_cast<uintptr_t>(workspace) % 256) return INVALID_VALUE;
  auto &context = *static_cast<Context *>(handle);
  context.workspace = size ? static_cast<char *>(workspace) : nullptr;
  context.size = size;
  return SUCCESS;
}
API int cublasDgemm_v2(void *handle, int ta, int tb, int m, int n, int k, const double *alpha, const double *a,
                       int lda, const double *b, int ldb, const double *beta, double *c, int ldc)
{
  return gemm(handle, ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
}
API int cublasSgemm_v2(void *handle, int ta, int tb, int m, int n, int k, const float *alpha, const float *a, int lda,
                       const float *b, int ldb, const float *beta, float *c, int ldc)
{
  return gemm(handle, ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
}
API const char *cublasGetStatusName(int status)
{
  switch (status) {
    case SUCCESS: return "CUBLAS_STATUS_SUCCESS";
    case NOT_INITIALIZED: return "CUBLAS_STATUS_NOT_INITIALIZED";
    case ALLOC_FAILED: return "CUBLAS_STATUS_ALLOC_FAILED";
    case INVALID_VALUE: return "CUBLAS_STATUS_INVALID_VALUE";
    case NOT_SUPPORTED: return "CUBLAS_STATUS_NOT_SUPPORTED";
    default: return "unknown status";
  }
}

// Contexts that are not destroyed.
API int standin_contexts()
{
  const std::lock_guard<std::mutex> guard(lock);
  return static_cast<int>(contexts.size());
}
API void standin_begin_capture(void *stream)
{
  const std::lock_guard<std::mutex> guard(lock);
  captures[stream];
}
API void standin_end_capture(void *stream)
{
  const std::lock_guard<std::mutex> guard(lock);
  captures.erase(stream);
}
// The product that the stream has kept since the last call, for `standin_run`; nullptr if there is none.
API void *standin_take(void *stream)
{
  const std::lock_guard<std::mutex> guard(lock);
  auto &kept = captures[stream];
  if (kept.empty()) return nullptr;
  auto *work = new std::function<void()>(std::move(kept.back()));
  kept.clear();
  return work;
}
API void standin_run(void *work) { (*static_cast<std::function<void()> *>(work))(); }
