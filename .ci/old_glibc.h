// Included by .ci/release before each source file. Since glibc 2.34 these functions are in libc itself, under
// a version of that day, and a plugin that asks for it could be loaded nowhere else. The old version is
// still there. (Before 2.34 it is in libdl, which Python and LAMMPS have loaded.)
#ifdef __x86_64__
__asm__(".symver dladdr, dladdr@GLIBC_2.2.5");
__asm__(".symver dladdr1, dladdr1@GLIBC_2.3.3");
__asm__(".symver dlerror, dlerror@GLIBC_2.2.5");
__asm__(".symver dlopen, dlopen@GLIBC_2.2.5");
__asm__(".symver dlsym, dlsym@GLIBC_2.2.5");
#endif
