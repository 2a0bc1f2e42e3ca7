// Package release tests what "make dist" made, as somebody who has nothing but a Debian system
// meets it: in a bare root that debootstrap makes, which is kept in build/tests. The tests need
// root, debootstrap and a Debian mirror (DEBIAN_MIRROR, or that of apt), and skip without.
// LONGROPE_DIST names a release elsewhere than in build/dist.
package release
