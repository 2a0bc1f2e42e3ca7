package main

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// installer is a folder of a release with a program that only has a version, and a home folder.
type installer struct {
	release, home string
	env           []string
}

// newInstaller makes a release of the files by their names, in addition to the program.
func newInstaller(t *testing.T, home string, files ...string) installer {
	t.Helper()
	if runtime.GOOS != "linux" || runtime.GOARCH != "amd64" && runtime.GOARCH != "arm64" {
		t.Skipf("SKIP: there is no release for %s on %s", runtime.GOOS, runtime.GOARCH)
	}
	r := release{out: t.TempDir(), arch: runtime.GOARCH}
	program := "#!/bin/sh\necho 'longrope version is 1.2.3-longrope.4'\n"
	service, err := scripts.ReadFile("ollama-longrope.service")
	require.NoError(t, err)
	all := []entry{
		{name: "bin/ollama", text: []byte(program), mode: 0o755},
		{name: docs + "/ollama-longrope.service", text: service, mode: 0o644},
	}
	for _, name := range files {
		all = append(all, entry{name: name, text: []byte(name), mode: 0o644})
	}
	var b bytes.Buffer
	_, err = writeArchive(&b, all, time.Unix(0, 0))
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(r.out, r.name("")), b.Bytes(), 0o644))
	require.NoError(t, r.scripts())
	require.NoError(t, r.sums())
	require.NoError(t, os.MkdirAll(home, 0o755))
	return installer{release: r.out, home: home}
}

// run is install.sh with arguments, in a folder that is neither the release nor the prefix.
func (i installer) run(t *testing.T, args ...string) (string, error) {
	t.Helper()
	cmd := exec.Command("sh", append([]string{filepath.Join(i.release, "install.sh")}, args...)...)
	cmd.Dir = t.TempDir()
	cmd.Env = append([]string{"HOME=" + i.home, "PATH=/usr/sbin:/usr/bin:/sbin:/bin"}, i.env...)
	said, err := cmd.CombinedOutput()
	return string(said), err
}

func (i installer) must(t *testing.T, args ...string) string {
	t.Helper()
	said, err := i.run(t, args...)
	require.NoError(t, err, said)
	return said
}

// tree is all that is below a folder, with its text.
func tree(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(dir, path)
		all[rel] = ""
		if d.Type().IsRegular() {
			b, err := os.ReadFile(path)
			all[rel] = string(b)
			return err
		}
		return nil
	})
	require.NoError(t, err)
	return all
}

// TestInstall: into a folder with a space and other signs, over an older one, and away again.
func TestInstall(t *testing.T) {
	top := t.TempDir()
	home := filepath.Join(top, "home")
	i := newInstaller(t, home, "lib/ollama/old.so", "lib/ollama/gone/x.so", "lib/ollama/same.so")
	before := tree(t, top)
	prefix := filepath.Join(top, "a folder/100% & $HOME, ok")
	said := i.must(t, "--prefix", prefix+"/", "--port", "12345", "--service")
	assert.Contains(t, said, "installed 1.2.3-longrope.4 in "+prefix)
	assert.Contains(t, said, "longrope doctor")
	env, err := os.ReadFile(filepath.Join(prefix, docs, "env"))
	require.NoError(t, err)
	assert.Contains(t, string(env), "\nOLLAMA_HOST=127.0.0.1:12345\n")
	assert.Contains(t, string(env), "\nOLLAMA_MODELS="+prefix+"/models\n")
	unit, err := os.ReadFile(filepath.Join(home, ".config/systemd/user/ollama-longrope.service"))
	require.NoError(t, err)
	assert.Contains(t, string(unit), `ExecStart="`+
		strings.ReplaceAll(prefix, "%", "%%")+`/bin/ollama" serve`)
	if tool, err := exec.LookPath("systemd-analyze"); err == nil {
		out, _ := exec.Command(tool, "verify", filepath.Join(home,
			".config/systemd/user/ollama-longrope.service")).CombinedOutput()
		assert.NotContains(t, string(out), "ollama-longrope.service:", "the unit is not accepted")
	}
	newer := newInstaller(t, home, "lib/ollama/same.so", "lib/ollama/new.so")
	newer.must(t, "--prefix", prefix)
	files := tree(t, prefix)
	assert.Contains(t, files, "lib/ollama/new.so")
	assert.Contains(t, files, "lib/ollama/same.so")
	assert.NotContains(t, files, "lib/ollama/old.so")
	assert.NotContains(t, files, "lib/ollama/gone/x.so")
	env, err = os.ReadFile(filepath.Join(prefix, docs, "env"))
	require.NoError(t, err)
	assert.Contains(t, string(env), ":12345\n", "settings stay")

	// Files of a server.
	for _, f := range []string{home + "/.ollama/id_ed25519", prefix + "/models/blobs/x"} {
		require.NoError(t, os.MkdirAll(filepath.Dir(f), 0o755))
		require.NoError(t, os.WriteFile(f, nil, 0o600))
	}
	copied := filepath.Join(top, "copy")
	require.NoError(t, exec.Command("cp", "-a", prefix, copied).Run())
	said = newer.must(t, "--prefix", prefix, "--uninstall")
	assert.Contains(t, said, "the models stay in "+prefix+"/models")
	assert.Equal(t, map[string]string{
		".": "", "models": "", "models/blobs": "",
		"models/blobs/x": "",
	}, tree(t, prefix))
	require.NoError(t, os.RemoveAll(prefix))
	require.NoError(t, os.Rename(copied, prefix))
	newer.must(t, "--prefix", prefix, "--uninstall", "--purge")
	assert.Equal(t, before, tree(t, top), "something is left")
	_, err = newer.run(t, "--prefix", prefix, "--uninstall")
	assert.Error(t, err)
}

// TestInstallAdvice: the line that is advised puts the program into PATH, whatever the folder.
func TestInstallAdvice(t *testing.T) {
	top := t.TempDir()
	i := newInstaller(t, filepath.Join(top, "home"))
	prefix := filepath.Join(top, "it's $HOME")
	said, err := i.run(t, "--prefix", prefix, "--service")
	require.Error(t, err)
	assert.Contains(t, said, "systemd takes no path with a quote")
	assert.NoDirExists(t, prefix)
	for line := range strings.Lines(i.must(t, "--prefix", prefix)) {
		if strings.HasPrefix(line, "  PATH=") {
			out, err := exec.Command("sh", "-c", line+"command -v ollama").Output()
			require.NoError(t, err)
			assert.Equal(t, prefix+"/bin/ollama\n", string(out))
			return
		}
	}
	t.Error("nothing is advised")
}

// TestInstallRefuses: what cannot be installed changes nothing.
func TestInstallRefuses(t *testing.T) {
	top := t.TempDir()
	i := newInstaller(t, filepath.Join(top, "home"))
	foreign := filepath.Join(top, "foreign")
	require.NoError(t, os.MkdirAll(foreign+"/bin", 0o755))
	require.NoError(t, os.WriteFile(foreign+"/bin/ollama", []byte("official"), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(top, "file"), nil, 0o644))
	new := filepath.Join(top, "new")
	refuses := func(i installer, says string, args ...string) {
		t.Helper()
		before := tree(t, top)
		said, err := i.run(t, args...)
		assert.Error(t, err, "%v", args)
		assert.Contains(t, said, says)
		assert.Equal(t, before, tree(t, top), "%v changed something", args)
	}
	refuses(i, "bin/ollama is there and is not of an installation by this script",
		"--prefix", foreign)
	refuses(i, "file is a file", "--prefix", filepath.Join(top, "file/x"))
	refuses(i, "cannot make /proc/x", "--prefix", "/proc/x")
	refuses(i, "has no installation", "--prefix", foreign, "--uninstall")
	for _, port := range []string{"0", "x", "65536", "-1", "99999999999"} {
		refuses(i, "--port "+port, "--prefix", new, "--port", port)
	}
	refuses(i, "exclude each other", "--prefix", new, "--models", "x", "--share-models")
	refuses(i, "unknown argument --prefx", "--prefx", new)
	refuses(i, "needs a value", "--prefix")
	refuses(i, "--purge is for --uninstall", "--purge")
	refuses(i, "--settings none goes with neither", "--settings", "none", "--port", "1")

	r := release{out: i.release, arch: runtime.GOARCH}
	tgz := filepath.Join(i.release, r.name(""))
	b, err := os.ReadFile(tgz)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(tgz, b[:len(b)-9], 0o644))
	refuses(i, "is damaged: its sum is not the one in SHA256SUMS", "--prefix", new)
	// A tarball that cannot be unpacked, as when the disk is full, over an older installation.
	require.NoError(t, os.WriteFile(tgz, b, 0o644))
	i.must(t, "--prefix", new)
	tool := filepath.Join(t.TempDir(), "tar")
	require.NoError(t, os.WriteFile(tool, []byte("#!/bin/sh\n/bin/tar \"$@\"\n"+
		"echo 'No space left on device' >&2\nexit 2\n"), 0o755))
	full := i
	full.env = []string{"PATH=" + filepath.Dir(tool) + ":/usr/bin:/bin"}
	refuses(full, "is the disk full? Nothing was changed", "--prefix", new)
	refuses(full, "is the disk full? Nothing was changed", "--prefix", top+"/other/x")
	require.NoError(t, os.Remove(tgz))
	refuses(i, "no ollama-*-linux-"+runtime.GOARCH+".tgz is next to install.sh", "--prefix", new)
}

// TestInstallNoSpace: a disk that is really full.
func TestInstallNoSpace(t *testing.T) {
	top := t.TempDir()
	i := newInstaller(t, filepath.Join(top, "home"), strings.Repeat("x", 100))
	disk := filepath.Join(top, "disk")
	require.NoError(t, os.MkdirAll(disk, 0o755))
	script := fmt.Sprintf(`set -e
mount -t tmpfs -o size=64k tmpfs %[1]s || { echo cannot mount; exit 0; }
i=0; while dd if=/dev/zero of=%[1]s/fill$i bs=4096 count=1 2>/dev/null; do i=$((i+1)); done
rm -f %[1]s/fill0 %[1]s/fill$i
if HOME=%[2]s sh %[3]s/install.sh --prefix %[1]s/p/q; then exit 3; fi
ls -A %[1]s | grep -v fill && exit 4
echo nothing left`, disk, i.home, i.release)
	said, err := exec.Command("unshare", "-rm", "sh", "-c", script).CombinedOutput()
	if strings.Contains(string(said), "cannot mount") || exitCode(err) == 1 &&
		strings.HasPrefix(string(said), "unshare") {
		t.Skipf("SKIP: no file system can be mounted here: %s", said)
	}
	require.NoError(t, err, "%s", said)
	assert.Contains(t, string(said), "nothing left")
	assert.Regexp(t, "is the disk full|cannot (make|write)", string(said))
}

func exitCode(err error) int {
	if e, ok := err.(*exec.ExitError); ok {
		return e.ExitCode()
	}
	return 0
}

// TestInstallShares: the models of an official Ollama, and another one in PATH.
func TestInstallShares(t *testing.T) {
	top := t.TempDir()
	i := newInstaller(t, filepath.Join(top, "home"))
	store := filepath.Join(i.home, ".ollama/models")
	for _, d := range []string{"blobs", "manifests"} {
		require.NoError(t, os.MkdirAll(filepath.Join(store, d), 0o755))
	}
	bin := filepath.Join(top, "official")
	require.NoError(t, os.MkdirAll(bin, 0o755))
	require.NoError(t, os.WriteFile(bin+"/ollama", []byte("#!/bin/sh\n"), 0o755))
	i.env = []string{"PATH=" + bin + ":/usr/bin:/bin"}
	before := tree(t, top)
	said := i.must(t, "--share-models")
	assert.Contains(t, said, "another ollama comes first in PATH: "+bin+"/ollama")
	prefix := filepath.Join(i.home, ".local/ollama-longrope")
	env, err := os.ReadFile(filepath.Join(prefix, docs, "env"))
	require.NoError(t, err)
	assert.Contains(t, string(env), "OLLAMA_HOST=127.0.0.1:11435\nOLLAMA_MODELS="+store+"\n")
	i.must(t, "--uninstall", "--purge")
	assert.Equal(t, before, tree(t, top), "shared models and the home folder stay")
}
