package release

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/longrope/longrope/patches"
)

// suite is the Debian release whose bare root the tests use, as the Dockerfile's base.
const suite = "bookworm"

// dist is the folder of the release.
func dist(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs("../../build/dist")
	require.NoError(t, err)
	if from := os.Getenv("LONGROPE_DIST"); from != "" {
		dir = from
	}
	name := "ollama-" + patches.Version() + "-linux-" + runtime.GOARCH + ".tgz"
	if _, err := os.Stat(filepath.Join(dir, name)); errors.Is(err, fs.ErrNotExist) {
		t.Skipf("SKIP: %s has no %s: run make dist", dir, name) // no part of make test
	}
	return dir
}

// mirror is where Debian's packages come from.
func mirror() string {
	if m := os.Getenv("DEBIAN_MIRROR"); m != "" {
		return m
	}
	out, _ := exec.Command("apt-get", "indextargets", "--format", "$(SITE) $(RELEASE)",
		"Created-By: Packages").Output()
	for line := range strings.Lines(string(out)) {
		if site, release, _ := strings.Cut(strings.TrimSpace(line), " "); release == suite {
			return site
		}
	}
	return "http://deb.debian.org/debian"
}

// root is a bare Debian root that one test may change. Commands run in it by chroot, in namespaces
// of their own: no process, mount or port of the machine is seen there, and none outlives the
// test.
type root struct{ dir string }

func newRoot(t *testing.T) root {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("SKIP: a bare root needs root's rights")
	}
	base, err := filepath.Abs("../../build/tests/debian-" + suite)
	require.NoError(t, err)
	if _, err := os.Stat(base); err != nil {
		if _, err := exec.LookPath("debootstrap"); err != nil {
			t.Skip("SKIP: no debootstrap (Debian: apt-get install debootstrap)")
		}
		require.NoError(t, os.MkdirAll(filepath.Dir(base), 0o755))
		tmp, err := os.MkdirTemp(filepath.Dir(base), ".debian-*")
		require.NoError(t, err)
		defer os.RemoveAll(tmp)
		// A namespace of its own: the proc that debootstrap mounts goes with it.
		out, err := exec.Command("unshare", "--mount", "--pid", "--fork", "debootstrap",
			"--variant=minbase", suite, tmp, mirror()).CombinedOutput()
		if err != nil {
			t.Skipf("SKIP: debootstrap cannot make a root from %s: %v\n%s", mirror(), err,
				tailOf(out))
		}
		require.NoError(t, os.Chmod(tmp, 0o755))
		require.NoError(t, os.Rename(tmp, base))
	}
	r := root{t.TempDir()}
	out, err := exec.Command("cp", "-a", base+"/.", r.dir).CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.NoError(t, os.Chmod(r.dir, 0o755))
	return r
}

func tailOf(b []byte) string { return string(b[max(0, len(b)-2000):]) }

// command runs a script in the root as a user, with an environment and nothing else.
func (r root) command(user, script string, env ...string) *exec.Cmd {
	const enter = `mount --make-rprivate / && mount -t proc proc "$1/proc" &&
ip link set lo up 2>/dev/null || true
[ -c "$1/dev/null" ] || exit 9
exec chroot --userspec="$2" "$1" /bin/sh -c "$3"`
	args := []string{
		"--mount", "--pid", "--net", "--ipc", "--uts", "--fork", "--kill-child",
		"sh", "-c", enter, "sh", r.dir, user, script,
	}
	cmd := exec.Command("unshare", args...)
	cmd.Env = append([]string{
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8",
	}, env...)
	return cmd
}

// files are the names of all that is in the root but what the kernel shows.
func (r root) files(t *testing.T) map[string]bool {
	t.Helper()
	all := map[string]bool{}
	err := filepath.WalkDir(r.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel := strings.TrimPrefix(path, r.dir)
		if rel == "/proc" || rel == "/tmp" {
			return filepath.SkipDir
		}
		all[rel] = true
		return nil
	})
	require.NoError(t, err)
	return all
}
