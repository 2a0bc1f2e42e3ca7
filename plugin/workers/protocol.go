package workers

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/longrope/longrope/ropescale"
	"github.com/longrope/longrope/ropescale/study"
)

// protocol is the version of what coordinator and workers say to each other, and of what a reading
// is worth: it rises when either changes. Both must have the same.
const protocol = 5

// Spec is what a worker needs to know in addition to having the model's file.
type Spec struct {
	Protocol    int    `json:"protocol"`
	ModelDigest string `json:"model_digest"` // sha256:… of the file
	ModelName   string `json:"model_name"`   // as the coordinator's user calls it
	Engine      string `json:"engine"`       // of the host, as evals.Info has it
	Length      int    `json:"length"`       // of the longest sequence, tokens
	Batch       int    `json:"batch"`        // tokens decoded at once; 0: the engine's own
	// Readings are what trials name by their index. Their form is known to who evaluates, not to
	// this package.
	Readings json.RawMessage `json:"readings"`
}

// encode returns the spec as it travels, and its name: the digest of that.
func (s Spec) encode() (id string, b []byte, err error) {
	s.Protocol = protocol
	if b, err = json.Marshal(s); err != nil {
		return "", nil, fmt.Errorf("workers: %w", err)
	}
	return digest(b), b, nil
}

// decodeSpec reads what encode wrote, and holds it to its name.
func decodeSpec(id string, b []byte) (Spec, error) {
	var s Spec
	switch err := json.Unmarshal(b, &s); {
	case digest(b) != id:
		return s, fmt.Errorf(
			"the specification %s of the search arrived damaged; start the worker again", id)
	case err != nil:
		return s, fmt.Errorf("the specification %s of the search: %w", id, err)
	case s.Protocol != protocol:
		return s, fmt.Errorf(
			"the search speaks version %d of the workers' protocol, this program %d; use the "+
				"same program on both sides",
			s.Protocol,
			protocol,
		)
	case s.Length < 1 || s.Length > maxLength:
		return s, fmt.Errorf("the search asks for %d tokens; 1 to %d are possible", s.Length,
			maxLength)
	case s.Batch < 0 || s.Batch > maxBatch:
		return s, fmt.Errorf("the search asks for batches of %d tokens; 0 to %d are possible",
			s.Batch, maxBatch)
	}
	s.ModelName, s.ModelDigest = printable(s.ModelName), printable(s.ModelDigest)
	return s, nil
}

// maxLength, maxBatch and maxSpec (in bytes) bound what a worker takes from a search: they are
// beyond what any model has, and what they make a worker allocate is bounded.
const (
	maxLength = 1 << 24
	maxBatch  = 1 << 16
	maxSpec   = 1 << 28
)

func digest(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:16])
}

// job is one message of the work queue: readings of a candidate.
type job struct {
	Spec  string         `json:"spec"`
	Trial int            `json:"trial"` // for people
	Rung  ropescale.Rung `json:"rung"`
	// Base is what the prefixes of cheap readings are evaluated under; nil: the readings are no
	// such.
	Base   *ropescale.Rung `json:"base,omitempty"`
	Passes [][]int         `json:"passes"` // readings, by the sequence that they are made of
}

// key names a job by what is to be computed, so that whatever happens to coordinators and workers,
// an answer belongs to all jobs of its name.
func (j job) key() string {
	b := append([]byte(j.Spec), rungKey(j.Rung, j.Base)...)
	for _, pass := range j.Passes {
		for _, r := range pass {
			b = binary.LittleEndian.AppendUint64(b, uint64(r))
		}
	}
	return digest(b)
}

// rungKey identifies what a rung does behind a base, in a few letters.
func rungKey(g ropescale.Rung, base *ropescale.Rung) string {
	key := g.Key()
	if base != nil {
		key += base.Key()
	}
	return digest([]byte(key))
}

// answer is a job that was done.
type answer struct {
	job
	Losses  study.Losses `json:"losses"` // of each reading, nats
	Tokens  []int        `json:"tokens"` // that each took: the first of a pass all of them
	Worker  string       `json:"worker"` // the name, for people
	ID      string       `json:"id"`     // of the worker's process
	Seconds float64      `json:"seconds"`
}

// check finds answers that no worker of ours can have given.
func (a answer) check() error {
	if a.ID == "" {
		return errors.New("it does not say which worker gave it")
	}
	readings := slices.Concat(a.Passes...)
	if len(readings) == 0 || len(a.Losses) != len(readings) || len(a.Tokens) != len(readings) {
		return fmt.Errorf("%d losses and %d token counts for %d readings", len(a.Losses),
			len(a.Tokens), len(readings))
	}
	for _, pass := range a.Passes {
		if len(pass) == 0 {
			return errors.New("it has a pass without readings")
		}
	}
	for i, l := range a.Losses {
		// A loss is the mean of negative logarithms of probabilities.
		if !(l >= 0) || a.Tokens[i] < 0 || a.Tokens[i] > maxTokens || readings[i] < 0 {
			return fmt.Errorf("reading %d has loss %v and %d tokens", readings[i], l, a.Tokens[i])
		}
	}
	if !(a.Seconds >= 0) {
		return fmt.Errorf("it took %v seconds", a.Seconds)
	}
	return nil
}

// Engine says on what a worker computes.
type Engine struct {
	Host    string `json:"host"`    // version of the host and the patches
	Backend string `json:"backend"` // "CPU", "CUDA", …
	Threads int    `json:"threads"`
	// Fingerprint is of the bits that the engine gives for a short reading: with equal ones results
	// do not depend on who evaluates what.
	Fingerprint string `json:"fingerprint"`
}

func (e Engine) String() string {
	s := "threads"
	if e.Threads == 1 {
		s = "thread"
	}
	return fmt.Sprintf("%s, %d %s", e.Backend, e.Threads, s)
}

// beat is what a worker says of itself: at once when something changes, and every second.
type beat struct {
	Protocol int    `json:"protocol"`
	ID       string `json:"id"`   // of the process
	Name     string `json:"name"` // for people
	Engine   Engine `json:"engine"`
	Spec     string `json:"spec"` // that it is ready for; "" before it is
	// Job is the key of the job at hand, Ack where its acknowledgement goes: with that the
	// coordinator can hand the job to somebody else. Delivery counts how often the job was handed
	// out.
	Job      string `json:"job,omitempty"`
	Ack      string `json:"ack,omitempty"`
	Delivery int    `json:"delivery,omitempty"`
	// Problem is why the worker ends; Left that it ends as it was told to.
	Problem string `json:"problem,omitempty"`
	Left    bool   `json:"left,omitempty"`
}

// clean takes out of what a worker says of itself what would upset a terminal.
func (t *beat) clean() {
	for _, s := range []*string{
		&t.ID, &t.Name, &t.Problem, &t.Engine.Host, &t.Engine.Backend, &t.Engine.Fingerprint,
	} {
		*s = printable(*s)
	}
}

func printable(s string) string {
	s = strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return -1
	}, s)
	return s[:min(len(s), 1000)]
}

// welcome answers a worker's first beat.
type welcome struct {
	Spec    string `json:"spec"`
	Refused string `json:"refused,omitempty"`
}

// decodeWelcome reads one: the specification, or why the worker is refused. The worker asks again
// where neither is said.
func decodeWelcome(b []byte) (spec string, again bool, err error) {
	var w welcome
	if json.Unmarshal(b, &w) != nil {
		return "", true, nil
	}
	if w.Refused != "" {
		return "", false, errors.New(printable(w.Refused))
	}
	spec = printable(w.Spec)
	return spec, spec == "", nil
}

// control is a message of the coordinator to all workers.
type control struct {
	// Cancel is the key of a job that needs no answer any more; "*" is every job.
	Cancel string `json:"cancel,omitempty"`
	End    bool   `json:"end,omitempty"` // the search is complete
	// Out is the id of a worker that is put out, Why in words the reason.
	Out string `json:"out,omitempty"`
	Why string `json:"why,omitempty"`
}

// names of a search's subjects, streams and bucket.
type names string

var namePattern = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)

// checkName says whether a search can have that name on a NATS server.
func checkName(name string) error {
	if !namePattern.MatchString(name) {
		return fmt.Errorf("%q cannot name a search; use up to 64 letters, digits, - and _", name)
	}
	return nil
}

func (n names) hello() string            { return "longrope." + string(n) + ".hello" }
func (n names) beat() string             { return "longrope." + string(n) + ".beat" }
func (n names) control() string          { return "longrope." + string(n) + ".control" }
func (n names) job(key string) string    { return "longrope." + string(n) + ".job." + key }
func (n names) answer(key string) string { return "longrope." + string(n) + ".answer." + key }
func (n names) jobs() string             { return "longrope-" + string(n) + "-jobs" }
func (n names) answers() string          { return "longrope-" + string(n) + "-answers" }
func (n names) specs() string            { return "longrope-" + string(n) + "-specs" }

// consumer is the one that all workers share.
const consumer = "workers"

// Times of the protocol; tests shorten them.
type times struct {
	wait    time.Duration // without an answer, after which it is said what is waited for
	beat    time.Duration // between two beats
	silence time.Duration // after which a worker counts as lost
	ackWait time.Duration // after which the server hands a job out again by itself
	tick    time.Duration // between two looks at slow jobs
}

var defaultTimes = times{
	wait:    time.Minute,
	beat:    time.Second,
	silence: 5 * time.Second,
	ackWait: 30 * time.Second,
	tick:    250 * time.Millisecond,
}
