package longrope

// Rules of output:
//
//   - Standard output is data: a table, a plot, or with --json one JSON value. It can be piped and
//     compared.
//   - Everything else goes to standard error, in whole lines that begin with "longrope: ".
//   - Lines begin with a small letter and end without a full stop. They say what was done, what it
//     means, or what to type next; a command to type stands on a line of its own, so that it can be
//     copied.
//   - Progress is a line or two that are drawn over, on a terminal only. Elsewhere it is a plain
//     line every half minute, so that a log shows that the program works, and nothing at all for
//     what is quick.
//   - Names that a file or another machine gave are shown with their control characters escaped
//     (package terminal).
//   - Errors are returned, never printed here: the host prints them and exits with 1. They name the
//     file, the key or the flag, and after a semicolon or colon what to do.

import (
	"bytes"
	"fmt"
	"io"
	"math"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"golang.org/x/term"

	"github.com/longrope/longrope/evals"
	"github.com/longrope/longrope/plugin/terminal"
	"github.com/longrope/longrope/plugin/units"
)

const (
	redraw = 100 * time.Millisecond // between two drawings on a terminal
	quiet  = 30 * time.Second       // between two lines elsewhere
)

// ui is where a command writes. Its methods may be called concurrently.
type ui struct {
	out, err io.Writer
	tty      bool // err is a terminal
	width    func() int
	now      func() time.Time

	mu    sync.Mutex
	drawn int // lines of progress that stand on the terminal
	last  time.Time
}

// newUI writes to out and err by the clock now; nil is time.Now.
func newUI(out, err io.Writer, now func() time.Time) *ui {
	if now == nil {
		now = time.Now
	}
	u := &ui{out: out, err: err, width: func() int { return 80 }, now: now}
	if f, ok := err.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		u.tty = true
		u.width = func() int {
			if w, _, err := term.GetSize(int(f.Fd())); err == nil && w > 0 {
				return w
			}
			return 80
		}
	}
	u.last = u.now()
	return u
}

// say writes a line to standard error.
func (u *ui) say(format string, args ...any) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.erase()
	text := terminal.Clean(strings.TrimRight(fmt.Sprintf(format, args...), "\n"))
	for line := range strings.SplitSeq(text, "\n") {
		fmt.Fprintf(u.err, "longrope: %s\n", line)
	}
}

// print writes data to standard output.
func (u *ui) print(text string) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.erase()
	_, err := io.WriteString(u.out, terminal.Clean(text))
	return err
}

// cellColors are the escapes of package draw.
var cellColors = regexp.MustCompile(`\x1b\[(0|48;2;\d+;\d+;\d+;38;5;\d+)m`)

// draw is print for text with cells in colour.
func (u *ui) draw(text string) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.erase()
	var b strings.Builder
	for {
		at := cellColors.FindStringIndex(text)
		if at == nil {
			break
		}
		b.WriteString(terminal.Clean(text[:at[0]]) + text[at[0]:at[1]])
		text = text[at[1]:]
	}
	_, err := io.WriteString(u.out, b.String()+terminal.Clean(text))
	return err
}

// progress shows that done of total is done. The first note continues the line; each other one
// gets a line of its own on a terminal. Empty notes are left out.
func (u *ui) progress(started time.Time, label string, done, total float64, notes ...string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	now := u.now()
	wait := quiet
	if u.tty {
		wait = redraw
	}
	if now.Sub(u.last) < wait {
		return
	}
	u.last = now
	label, notes = terminal.Clean(label), slices.Clone(notes)
	for i := range notes {
		notes[i] = terminal.Clean(notes[i])
	}
	share := 0.0
	if total > 0 {
		share = min(max(done/total, 0), 1)
	}
	text := fmt.Sprintf("%s %3.0f %%", label, 100*share)
	var more []string
	for i, note := range notes {
		switch {
		case note == "":
		case i == 0 || !u.tty:
			text += ", " + note
		default:
			more = append(more, "  "+note)
		}
	}
	if left, ok := units.Remaining(now.Sub(started), share); ok {
		text += ", " + units.Duration(left) + " left"
	}
	if !u.tty {
		fmt.Fprintf(u.err, "longrope: %s\n", text)
		return
	}
	u.erase()
	for i, line := range append([]string{text}, more...) {
		if i > 0 {
			io.WriteString(u.err, "\n")
		}
		io.WriteString(u.err, cut("longrope: "+line, u.width()-1))
		u.drawn++
	}
}

// done takes the progress away.
func (u *ui) done() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.erase()
}

func (u *ui) erase() {
	for ; u.drawn > 0; u.drawn-- {
		io.WriteString(u.err, "\r\x1b[K")
		if u.drawn > 1 {
			io.WriteString(u.err, "\x1b[A")
		}
	}
}

// cut shortens s to at most n runes.
func cut(s string, n int) string {
	if n < 1 || utf8.RuneCountInString(s) <= n {
		return s
	}
	return string([]rune(s)[:n-1]) + "…"
}

// table lays out rows under a header: text to the left, in the first left columns, figures to the
// right.
func table(header []string, rows [][]string, left int) string {
	widths := make([]int, len(header))
	all := append([][]string{header}, rows...)
	for _, row := range all {
		for i, cell := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	var b strings.Builder
	for _, row := range all {
		var line strings.Builder
		for i, cell := range row {
			if i > 0 {
				line.WriteString("  ")
			}
			pad := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell))
			if i < left {
				line.WriteString(cell + pad)
			} else {
				line.WriteString(pad + cell)
			}
		}
		b.WriteString(strings.TrimRight(line.String(), " ") + "\n")
	}
	return b.String()
}

// printJSON writes v to standard output, indented.
func (u *ui) printJSON(v any) error {
	var b bytes.Buffer
	if err := evals.WriteJSON(&b, v); err != nil {
		return err
	}
	return u.print(b.String())
}

// fitness writes a perplexity, which may be infinite.
func fitness(x float64) string {
	switch {
	case math.IsInf(x, 0):
		return "failed"
	case x >= 1e5:
		return fmt.Sprintf("%.2g", x)
	}
	return fmt.Sprintf("%.3f", x)
}
