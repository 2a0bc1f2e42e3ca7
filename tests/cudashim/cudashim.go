// Package cudashim makes a ggml backend that needs no GPU out of the host's CUDA source, so that
// the kernels of RoPE themselves are run against the oracle, and whole models with several devices
// that have memory of their own.
//
// The text of rope.cu is what it is in the patched tree, but for its launches: a C++ compiler reads
// kernel<<<…>>>(…) as a loop over the threads (see src/common.cuh). What the backend answers for
// RoPE in supports_op, and when it fuses RoPE with view and set_rows, is cut out of ggml-cuda.cu.
// Every other op is the CPU's.
//
// This cannot show the precision of a device's own cosf and powf, nor speed.
package cudashim

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
)

// kernels is the folder of the CUDA source in a tree of the host.
const kernels = "ml/backend/ggml/ggml/src/ggml-cuda"

// Build makes the backend of the host's tree in out and returns the path of the library. src is
// this package's src folder, libs the one with libggml-base.so and the CPU backends. It does
// nothing if the library is newer than all it is made of.
func Build(tree, src, libs, out string) (string, error) {
	rope, err := os.ReadFile(filepath.Join(tree, kernels, "rope.cu"))
	if err != nil {
		return "", err
	}
	header, err := os.ReadFile(filepath.Join(tree, kernels, "rope.cuh"))
	if err != nil {
		return "", err
	}
	main, err := os.ReadFile(filepath.Join(tree, kernels, "ggml-cuda.cu"))
	if err != nil {
		return "", err
	}
	ropeCPP, err := launches(string(rope))
	if err != nil {
		return "", err
	}
	generated, err := cuts(string(main))
	if err != nil {
		return "", err
	}
	files := map[string][]byte{
		"rope.cpp":    []byte(ropeCPP),
		"rope.cuh":    header,
		"generated.h": []byte(generated),
	}
	for _, name := range []string{
		"backend.cpp", "common.cuh", "convert.cuh", "ggml-cuda/common.cuh",
	} {
		if files[name], err = os.ReadFile(filepath.Join(src, name)); err != nil {
			return "", err
		}
	}

	lib := filepath.Join(out, "libggml-cuda.so")
	compiler := strings.Fields(os.Getenv("CXX"))
	if len(compiler) == 0 {
		compiler = []string{"g++"}
	}
	ggml := filepath.Join(tree, "ml/backend/ggml/ggml")
	args := append(compiler[1:], "-std=c++17", "-O2", "-fPIC", "-shared", "-fvisibility=hidden",
		"-Wall", "-ffp-contract=off", "-I"+filepath.Join(ggml, "include"),
		"-I"+filepath.Join(ggml, "src"), "-o", lib, filepath.Join(out, "src/backend.cpp"),
		filepath.Join(libs, "libggml-base.so"), "-Wl,-rpath,"+libs, "-ldl")
	sum := sha256.New()
	fmt.Fprintln(sum, compiler, args)
	for _, name := range []string{
		"backend.cpp", "common.cuh", "convert.cuh", "ggml-cuda/common.cuh",
		"rope.cpp", "rope.cuh", "generated.h",
	} {
		sum.Write(files[name])
	}
	for _, name := range []string{
		"include/ggml.h", "include/ggml-backend.h", "src/ggml-impl.h", "src/ggml-backend-impl.h",
	} {
		text, err := os.ReadFile(filepath.Join(ggml, name))
		if err != nil {
			return "", err
		}
		sum.Write(text)
	}
	stamp := lib + ".made-of"
	want := fmt.Appendf(nil, "%x\n", sum.Sum(nil))
	if have, err := os.ReadFile(stamp); err == nil && bytes.Equal(have, want) {
		return lib, nil
	}

	for name, text := range files {
		path := filepath.Join(out, "src", name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return "", err
		}
		if err := os.WriteFile(path, text, 0o644); err != nil {
			return "", err
		}
	}
	os.Remove(lib) // its pages may be in use
	if text, err := exec.Command(compiler[0], args...).CombinedOutput(); err != nil {
		return "", fmt.Errorf("compile the CUDA kernels as C++: %w\n%s", err, text)
	}
	return lib, os.WriteFile(stamp, want, 0o644)
}

var launch = regexp.MustCompile(`(\w+<[\w, ]+>)<<<([^<>]*)>>>\(`)

// launches rewrites every launch of a kernel as a loop over its threads.
func launches(cuda string) (string, error) {
	n := strings.Count(cuda, "<<<")
	if n == 0 {
		return "", fmt.Errorf("rope.cu: no kernel is launched: has the host moved its kernels?")
	}
	if m := len(launch.FindAllString(cuda, -1)); m != n {
		return "", fmt.Errorf("rope.cu: %d of %d launches have a form that is not known", n-m, n)
	}
	return launch.ReplaceAllString(cuda, "for (cudashim_launch l($2); l.next(); ) $1("), nil
}

var (
	supports = regexp.MustCompile(
		`(?s)case GGML_OP_ROPE:\s*case GGML_OP_ROPE_BACK: (\{.*?\n        \})`)
	fuse = regexp.MustCompile(`(?s)static bool ggml_cuda_should_fuse_rope_set_rows\(.*?\n\}\n`)
)

// cuts takes what the backend answers for RoPE out of ggml-cuda.cu.
func cuts(cuda string) (string, error) {
	s := supports.FindAllStringSubmatch(cuda, -1)
	f := fuse.FindAllString(cuda, -1)
	if len(s) != 1 || len(f) != 1 {
		return "", fmt.Errorf(
			"ggml-cuda.cu: %d answers of supports_op for RoPE and %d rules for its fusion, "+
				"want one each", len(s), len(f))
	}
	supported := "static bool cudashim_supports_rope(const ggml_tensor * op) " + s[0][1]
	return f[0] + "\n" + supported + "\n", nil
}
