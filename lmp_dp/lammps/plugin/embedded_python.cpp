// Python without linking to it: its functions are looked up in the process (lmp-dp run, a Python script)
// or in a libpython that is opened here (the plain lmp program). Only functions of the stable ABI are
// used, declared by hand, so one build serves every Python 3.

#include "embedded_python.h"

#include "lmppython.h"

#include <cstdio>
#include <cstdlib>
#include <dlfcn.h>
#include <iterator>
#include <type_traits>
#include <unistd.h>

namespace {

struct PyObject;

struct PythonApi {
  int (*Py_IsInitialized)();
  void (*Py_InitializeEx)(int signal_handlers);
  wchar_t *(*Py_DecodeLocale)(const char *, size_t *);
  void *(*PyEval_SaveThread)();
  int (*PyGILState_Ensure)();
  void (*PyGILState_Release)(int);
  PyObject *(*PyImport_ImportModule)(const char *);
  PyObject *(*PyObject_CallMethod)(PyObject *, const char *, const char *, ...);
  PyObject *(*PyObject_Str)(PyObject *);
  const char *(*Py_GetVersion)();
  void (*PyErr_Clear)();
  const char *(*PyUnicode_AsUTF8AndSize)(PyObject *, ssize_t *);
  void (*PyErr_Fetch)(PyObject **, PyObject **, PyObject **);
  void (*PyErr_NormalizeException)(PyObject **, PyObject **, PyObject **);
  void (*PyErr_SetInterrupt)();
  void (*Py_DecRef)(PyObject *);
  void (*Py_SetProgramName)(const wchar_t *);    // optional: deprecated since Python 3.11
};

PythonApi api;
Bridge functions;
bool connected = false;

// Fill `api` from an opened library, or from the process (RTLD_DEFAULT).
bool look_up(void *library)
{
  bool complete = true;
  auto get = [&](auto &function, const char *name, bool needed = true) {
    function = reinterpret_cast<std::decay_t<decltype(function)>>(dlsym(library, name));
    if (needed && !function) complete = false;
  };
#define GET(name) get(api.name, #name)
  GET(Py_IsInitialized);
  GET(Py_InitializeEx);
  GET(Py_DecodeLocale);
  GET(PyEval_SaveThread);
  GET(PyGILState_Ensure);
  GET(PyGILState_Release);
  GET(PyImport_ImportModule);
  GET(PyObject_CallMethod);
  GET(PyObject_Str);
  GET(Py_GetVersion);
  GET(PyErr_Clear);
  GET(PyUnicode_AsUTF8AndSize);
  GET(PyErr_Fetch);
  GET(PyErr_NormalizeException);
  GET(PyErr_SetInterrupt);
  GET(Py_DecRef);
#undef GET
  get(api.Py_SetProgramName, "Py_SetProgramName", false);
  return complete;
}

std::string variable(const char *name)
{
  const char *value = getenv(name);
  return value ? value : "";
}

// The Python executable whose environment holds lmp_dp: what LMP_DP_PYTHON names (the programs `lmp` and
// `lmp-dp` see to that), or else the one in whose environment the plugin lies:
//   PREFIX/lib/python3.N/site-packages/lmp_dp/lammps/plugin/compiled/VERSION/dpplugin.so: PREFIX/bin/python3.N
//   PREFIX/share/lmp-dp/plugins/KEY/dpplugin.so: PREFIX/bin/python3
// A plugin that lies elsewhere belongs to the Python on PATH.
std::string program()
{
  const std::string named = variable("LMP_DP_PYTHON");
  if (!named.empty()) return named;
  Dl_info plugin;
  char *path = dladdr(&functions, &plugin) ? realpath(plugin.dli_fname, nullptr) : nullptr;
  std::string folder = path ? path : "", version;
  free(path);
  auto cut_last = [&folder] {
    const size_t slash = folder.rfind('/');
    const std::string last = slash == std::string::npos ? "" : folder.substr(slash + 1);
    folder.resize(slash == std::string::npos ? 0 : slash);
    return last;
  };
  for (int k = 0; k < 2; k++) cut_last();    // dpplugin.so, VERSION or KEY
  const std::string parent = cut_last();
  int levels = 4;    // plugin, lammps, lmp_dp, site-packages
  if (parent == "plugins") {
    levels = 1;    // lmp-dp
    version = "python3";
  }
  for (int k = 0; k < levels; k++) cut_last();
  if (version.empty()) version = cut_last();
  cut_last();    // lib or share
  const std::string beside = folder + "/bin/" + version;
  return version.find("python3") == 0 && access(beside.c_str(), X_OK) == 0 ? beside : "python3";
}

// The libpython of that program, as it says; empty if it has none, or knows of no lmp_dp.
std::string ask_for_libpython()
{
  setenv("LMP_DP_PYTHON", program().c_str(), 1);    // for the shell, whatever characters it has
  FILE *answer = popen("\"$LMP_DP_PYTHON\" -c 'from lmp_dp.lammps import libraries as of\n"
                       "print(of.libpython() or \"\", end=\"\")'", "r");
  std::string path;
  for (int c; answer && (c = getc(answer)) != EOF;) path += (char) c;
  if (answer) pclose(answer);
  return path;
}

bool open_libpython(std::string &message)
{
  const bool named = getenv("LMP_DP_LIBPYTHON");    // empty, if the Python that set it knows of none
  const std::string path = named ? variable("LMP_DP_LIBPYTHON") : ask_for_libpython();
  const std::string advice = ": start LAMMPS with `lmp-dp run` in place of `lmp`, which needs none, or "
                             "name one in the environment variable LMP_DP_LIBPYTHON";
  if (path.empty()) {
    message = (named ? "this Python" : program()) +
        " has no shared libpython that could run inside LAMMPS" + advice;
    return false;
  }
  // RTLD_GLOBAL: the extension modules of NumPy and others expect to find Python in the process.
  void *library = dlopen(path.c_str(), RTLD_NOW | RTLD_GLOBAL);
  if (!library || !look_up(library)) {
    message = "libpython cannot be used (" +
        (library ? path + " lacks functions of Python 3.10" : std::string(dlerror())) + ")" + advice;
    return false;
  }
  return true;
}

void start_python(LAMMPS_NS::Python *of_lammps)
{
  // The name of the executable, which may be one on PATH, tells Python which environment it is in.
  if (api.Py_SetProgramName)
    api.Py_SetProgramName(api.Py_DecodeLocale(program().c_str(), nullptr));    // kept by Python
  if (of_lammps->is_enabled()) {
    of_lammps->init();    // LAMMPS ends a Python when it ends, and crashes unless the GIL is its own
    return;
  }
  api.Py_InitializeEx(0);       // 0: Ctrl-C stays LAMMPS's
  api.PyEval_SaveThread();      // let go of the GIL, as if Python had called LAMMPS
}

// A Python that someone else has started, such as LAMMPS's command `python`, may not know it.
void add_environment()
{
  const std::string path = program(), version = api.Py_GetVersion();    // "3.11.7 (main, ...)"
  const size_t bin = path.rfind("/bin/");
  if (bin == std::string::npos) return;
  const std::string folder = path.substr(0, bin) + "/lib/python" +
      version.substr(0, version.find('.', version.find('.') + 1)) + "/site-packages";
  PyObject *site = api.PyImport_ImportModule("site");
  PyObject *result =
      site ? api.PyObject_CallMethod(site, "addsitedir", "s", folder.c_str()) : nullptr;
  for (PyObject *object : {site, result})
    if (object) api.Py_DecRef(object);
}

std::string pending_exception()
{
  PyObject *type = nullptr, *value = nullptr, *traceback = nullptr;
  api.PyErr_Fetch(&type, &value, &traceback);
  api.PyErr_NormalizeException(&type, &value, &traceback);
  PyObject *text = value ? api.PyObject_Str(value) : nullptr;
  const char *characters = text ? api.PyUnicode_AsUTF8AndSize(text, nullptr) : nullptr;
  const std::string result = characters ? characters : "unknown error";
  for (PyObject *object : {text, type, value, traceback})
    if (object) api.Py_DecRef(object);
  return result;
}

bool connect(std::string &message)
{
  functions = Bridge();
  functions.bridge_size = sizeof(Bridge);
  functions.n_fields = std::size(SHARED_FIELDS);
  functions.fields = SHARED_FIELDS;
  const int gil = api.PyGILState_Ensure();
  PyObject *package = api.PyImport_ImportModule("lmp_dp");
  if (!package) {
    api.PyErr_Clear();
    add_environment();
    api.PyErr_Clear();
  }
  PyObject *module = api.PyImport_ImportModule("lmp_dp.lammps.calls");
  PyObject *result = module ? api.PyObject_CallMethod(module, "connect", "K",
                                                      (unsigned long long) (uintptr_t) &functions)
                            : nullptr;
  if (!result)
    message = (module ? "" : "Python cannot import lmp_dp.lammps.calls: ") + pending_exception();
  for (PyObject *object : {package, module, result})
    if (object) api.Py_DecRef(object);
  api.PyGILState_Release(gil);
  return result != nullptr;
}

}    // namespace

namespace embedded_python {

const Bridge *bridge(LAMMPS_NS::Python *of_lammps, std::string &message)
{
  if (!connected) {
    if (!look_up(RTLD_DEFAULT) && !open_libpython(message)) return nullptr;
    if (!api.Py_IsInitialized()) start_python(of_lammps);
    connected = connect(message);
  }
  if (connected && !functions.settings) message = "Python has ended";
  return connected && functions.settings ? &functions : nullptr;
}

void interrupt()
{
  api.PyErr_SetInterrupt();
}

}    // namespace embedded_python
