#define RELEASE "stable"
#define VERSION "2.36"
