package doctor

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// backend is what a process that loaded the backends of one folder found, as the server's runners
// load them: the CPU's, and those of a kind of GPU.
type backend struct {
	Name    string   `json:"name"` // of its folder: cuda_v12, or CPU
	Devices []device `json:"devices"`
	// Library is the file of the CPU backend that was loaded, which is the fastest that the
	// processor can run; empty for the slow one that is compiled in.
	Library string `json:"library,omitempty"`
	Error   string `json:"error,omitempty"` // why nothing was found
	Hint    string `json:"hint,omitempty"`  // what to know of it
}

// device is a device of a backend, with the op that it was given.
type device struct {
	Name        string `json:"name"`
	Description string `json:"description"`
	Free        uint64 `json:"free"`
	Total       uint64 `json:"total"`

	CPU   bool `json:"cpu"`
	Cases int  `json:"cases"` // ops with rows that were asked of it
	// Refused are the ops that it leaves to the CPU.
	Refused int `json:"refused"`
	// Deviation is the largest of a result from the CPU's, and on a CPU from float64's: on values
	// of up to 2. Wrong counts the ops that deviate by more than rounding.
	Deviation float64 `json:"deviation"`
	Wrong     int     `json:"wrong"`
	Error     string  `json:"error,omitempty"`
}

// foreign is in the log of a process that refused a backend (patch 0054).
const foreign = "of another build of ollama"

// childFlag has the program look at what OLLAMA_LIBRARY_PATH names, and print a backend.
const childFlag = "backends-of-this-process"

// ask has a process of its own load what is in dirs: one backend that does not load, or that ends
// the process, leaves the others as they are.
func ask(ctx context.Context, program, name string, dirs []string) backend {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	list := strings.Join(dirs, string(filepath.ListSeparator))
	cmd := exec.CommandContext(ctx, program, "longrope", "doctor", "--"+childFlag)
	cmd.Env = append(os.Environ(), "OLLAMA_LIBRARY_PATH="+list, "LD_LIBRARY_PATH="+join(list,
		os.Getenv("LD_LIBRARY_PATH")))
	cmd.WaitDelay = time.Second
	var out, log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &log
	b := backend{}
	err := cmd.Run()
	if err == nil {
		err = json.Unmarshal(out.Bytes(), &b)
	}
	b.Name = name
	switch {
	case err != nil:
		b.Error = fmt.Sprintf("the process that loaded it ended: %v%s", err, lastLine(log.String()))
	case strings.Contains(log.String(), foreign):
		b.Error = "its library is " + foreign + " and is not used; install the lib/ollama that " +
			"came with this program"
	}
	return b
}

func join(list, more string) string {
	if more == "" {
		return list
	}
	return list + string(filepath.ListSeparator) + more
}

// lastLine is ": " and the last line of a log, if it has one.
func lastLine(log string) string {
	log = strings.TrimSpace(log)
	if log == "" {
		return ""
	}
	return ": " + log[strings.LastIndexByte(log, '\n')+1:]
}

// folders are the folders of GPU backends in the library folder lib.
func folders(lib string) []string {
	files, _ := filepath.Glob(filepath.Join(lib, "*", "*ggml-*"))
	var dirs []string
	for _, f := range files {
		if d := filepath.Dir(f); len(dirs) == 0 || dirs[len(dirs)-1] != d { // Glob sorts
			dirs = append(dirs, d)
		}
	}
	return dirs
}

// describe puts the findings into the report.
func (b backend) describe(r *report) {
	if b.Error != "" {
		r.add(Fault, b.Name, b.Error)
		return
	}
	cpu := b.Name == cpuBackend
	there, said := 0, map[string]bool{}
	for _, d := range b.Devices {
		if d.CPU != cpu {
			continue
		}
		there++
		name := d.Description
		if cpu && b.Library != "" {
			name += " (" + filepath.Base(b.Library) + ")"
		}
		grade, text := d.rows()
		var more []string
		if b.Hint != "" {
			more = append(more, b.Hint)
		}
		if grade == OK && cpu && b.Library == "" {
			grade = Note
			more = append(more, "no fast backend is in lib/ollama: slow, by ten times and more")
		}
		if said[name+text] && cpu { // the backend that is compiled in is there too
			continue
		}
		said[name+text] = true
		r.add(grade, b.Name, name+": "+text, more...)
	}
	switch {
	case there > 0:
	case cpu:
		r.add(Fault, b.Name, "no CPU backend loads")
	default:
		r.add(Note, b.Name, "loads, and finds no device")
	}
}

const cpuBackend = "CPU"

// rows says how the device computes RoPE with rows.
func (d device) rows() (Grade, string) {
	from := "the CPU's"
	if d.CPU {
		from = "float64's"
	}
	switch {
	case d.Error != "":
		return Fault, "RoPE with rows failed: " + d.Error
	case d.Wrong > 0:
		return Fault, fmt.Sprintf("RoPE with rows is wrong, by up to %.2g from %s, in %d of %d "+
			"ops; please report it", d.Deviation, from, d.Wrong, d.Cases)
	case d.Refused == d.Cases:
		return Note, "leaves RoPE with rows to the CPU: right, and slow"
	case d.Refused > 0:
		return Note, fmt.Sprintf("takes rows in %d of %d ops and leaves the others to the CPU, "+
			"within %.1g of %s", d.Cases-d.Refused, d.Cases, d.Deviation, from)
	}
	return OK, fmt.Sprintf("takes rows, within %.1g of %s", d.Deviation, from)
}
