// Is the LAMMPS of this process the one that the plugin was compiled for? Classes change between updates of
// one date, MPI's types are numbers in one library and addresses in another: where something differs, the
// first call would crash or, worse, not.
#include "this_lammps.h"

#include "comm.h"
#include "compute.h"
#include "fix.h"
#include "lammps.h"
#include "library.h"
#include "pair.h"

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <dlfcn.h>
#include <link.h>
#include <mpi.h>
#include <typeinfo>
#include <unistd.h>

using namespace LAMMPS_NS;

namespace {

constexpr char UNKNOWN[] = "(unknown)";    // LAMMPS's commit, where it was built from an archive
#ifdef OPEN_MPI
constexpr char KIND_OF_MPI[] = "Open MPI";
#else
constexpr char KIND_OF_MPI[] = "MPICH";    // or what has its ABI: Intel MPI, Cray MPICH, MVAPICH
#endif

// What must be equal. Text is as LAMMPS's help has it, "22 Jul 2025 - Update 2".
struct Identity {
  std::string version, commit, sizes, kind_of_mpi;

  // A commit that one side does not know decides nothing: archives of a release know none.
  bool fits(const Identity &other) const
  {
    return version == other.version && sizes == other.sizes && kind_of_mpi == other.kind_of_mpi &&
        (commit == other.commit || commit == UNKNOWN || other.commit == UNKNOWN);
  }

  std::string text() const
  {
    return "LAMMPS " + version + " (commit " + commit + ", " + sizes + ", " + kind_of_mpi + ")";
  }
};

std::string sizes_of(int tagint_size, int bigint_size)
{
  return tagint_size == 8 ? "BIGBIG" : bigint_size == 8 ? "SMALLBIG" : "SMALLSMALL";
}

// LAMMPS has no function that tells its update, which only its help names, on a line that starts so.
constexpr char BEFORE_VERSION[] = "Large-scale Atomic/Molecular Massively Parallel Simulator - ";

// For dl_iterate_phdr: 1 where this object holds LAMMPS, whose read-only parts are searched then.
int read_version(dl_phdr_info *object, size_t, void *version)
{
  const auto lammps = (uintptr_t) &LAMMPS::git_commit;
  bool here = false;
  for (int k = 0; k < object->dlpi_phnum; k++) {
    const ElfW(Phdr) &part = object->dlpi_phdr[k];
    here = here || (part.p_type == PT_LOAD && lammps - object->dlpi_addr - part.p_vaddr < part.p_memsz);
  }
  for (const unsigned access : {PF_R, PF_R | PF_X})    // first without the code: the larger part
    for (int k = 0; here && k < object->dlpi_phnum; k++) {
      const ElfW(Phdr) &part = object->dlpi_phdr[k];
      if (part.p_type != PT_LOAD || part.p_flags != access) continue;
      const char *const start = (const char *) (object->dlpi_addr + part.p_vaddr);
      const size_t size = strlen(BEFORE_VERSION);
      auto *const found = (const char *) memmem(start, part.p_filesz, BEFORE_VERSION, size);
      if (!found) continue;
      *(std::string *) version = std::string(found + size, strcspn(found + size, "\n"));
      return 1;
    }
  return here;
}

std::string kind_of_mpi()
{
  if (dlsym(RTLD_DEFAULT, "ompi_mpi_comm_world")) return "Open MPI";
  return dlsym(RTLD_DEFAULT, "MPI_Comm_split_type") ? "MPICH" : "without MPI";
}

// Classes of equal updates that were changed by hand, or of archives of the development between releases:
// the number of virtual functions, in our headers and in LAMMPS. What is not exported is not compared.
template <class Base> struct WithOneMore : Base {
  virtual void one_more();
};

template <class Base> bool same_virtual_functions()
{
  void *const table = dlsym(RTLD_DEFAULT, (std::string("_ZTV") + typeid(Base).name()).c_str());
  Dl_info object;
  ElfW(Sym) *symbol = nullptr;
  if (!table || !dladdr1(table, &object, (void **) &symbol, RTLD_DL_SYMENT) || !symbol) return true;
  // A pointer to a virtual function holds its place in the table, and perhaps 1 as a mark; before the first
  // there are two more entries (Itanium C++ ABI, 2.3 and 2.5.2).
  const auto pointer = &WithOneMore<Base>::one_more;
  size_t place;
  memcpy(&place, &pointer, sizeof(place));
  return symbol->st_size == (place & ~size_t(1)) + 2 * sizeof(void *);
}

// The file that holds LAMMPS, a library or the program, as a shell reads it.
std::string path()
{
  Dl_info object;
  const bool named = dladdr((void *) &LAMMPS::git_commit, &object) && strchr(object.dli_fname, '/');
  char *const absolute = realpath(named ? object.dli_fname : "/proc/self/exe", nullptr);
  const std::string result = absolute ? absolute : "PATH";
  free(absolute);
  return result.find_first_of(" ()&;") == std::string::npos ? result : "'" + result + "'";
}

}    // namespace

namespace this_lammps {

std::string unfit()
{
  // volatile: they stay in one piece in the file, so that a test can write others there
  const char *volatile version = LAMMPS_VERSION, *volatile commit = LAMMPS_COMMIT;
  const Identity compiled_for{version, commit, sizes_of(sizeof(tagint), sizeof(bigint)),
                              KIND_OF_MPI};
  // LAMMPS's own build has no word for a commit that git would not tell
  const char *const its_commit = LAMMPS::git_commit();
  Identity here{"of an unknown version", *its_commit ? its_commit : UNKNOWN,
                sizes_of(lammps_extract_setting(nullptr, "tagint"), lammps_extract_setting(nullptr, "bigint")),
                kind_of_mpi()};
  dl_iterate_phdr(read_version, &here.version);
  const bool fits = compiled_for.fits(here);
  if (fits && same_virtual_functions<Pair>() && same_virtual_functions<Compute>() &&
      same_virtual_functions<Fix>() && same_virtual_functions<Comm>())
    return "";
  const std::string classes = fits ? ", with other C++ classes" : "";
  const std::string reason = "the plugin was compiled for " + compiled_for.text() + ", but this is " +
      here.text() + classes +
      ". Use that LAMMPS, or compile the plugin for this one: lmp-dp plugin build --lammps " + path();
  return reason;
}

}    // namespace this_lammps
