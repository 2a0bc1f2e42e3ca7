package recall

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/longrope/longrope/evals"
)

// Record is a sample as a line of JSON, with the fields of RULER's own files, so that other
// harnesses ask the same: input and answer_prefix make the prompt, outputs are the references,
// length counts the tokens of the prompt and of the room for the answer.
type Record struct {
	Task         string   `json:"task"`
	Index        int      `json:"index"`
	Input        string   `json:"input"`
	AnswerPrefix string   `json:"answer_prefix"`
	Outputs      []string `json:"outputs"`
	Length       int      `json:"length"`
	MaxLength    int      `json:"max_length"`
	MaxNewTokens int      `json:"max_new_tokens"`
	Context      int      `json:"context"` // samples of one context have a number in common
}

// records gives the samples to add.
func (o *Options) records(sets []set, add func(record any) error) error {
	for _, x := range sets {
		for i := range x.count {
			p, err := x.prompt(i)
			if errors.Is(err, errUnfit) {
				continue
			}
			if err != nil {
				return err
			}
			err = add(Record{
				o.kind.Name, p.sample, p.input, p.prefix, p.references,
				p.size + o.kind.Answer, x.length, o.kind.Answer, p.context,
			})
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// maxLine bounds a line of samples: 8 million tokens and more.
const maxLine = 64 << 20

// readSamples reads the samples of a task. Lines without a task are of the one that is asked.
func readSamples(path, task string) (all []Record, digest string, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, "", err
	}
	defer f.Close()
	hash := sha256.New()
	lines := bufio.NewScanner(io.TeeReader(f, hash))
	lines.Buffer(nil, maxLine)
	others := map[string]bool{}
	for n := 1; lines.Scan(); n++ {
		line := bytes.TrimSpace(evals.TrimBOM(lines.Bytes()))
		if len(line) == 0 {
			continue
		}
		var r Record
		if err := evals.UnmarshalJSON(line, &r); err != nil {
			return nil, "", fmt.Errorf("%s: line %d: %w", path, n, err)
		}
		switch {
		case r.Task != "" && r.Task != task:
			others[r.Task] = true
			continue
		case r.Input == "":
			err = errors.New(`no "input"`)
		case len(r.Outputs) == 0 || slices.Contains(r.Outputs, ""):
			err = errors.New(`no "outputs", or an empty one`)
		case r.MaxLength < 0 || r.Length < 0 || r.MaxNewTokens < 0:
			err = errors.New("a length is negative")
		case r.MaxLength == 0 && r.Length == 0:
			err = errors.New(`neither "length" nor "max_length"`)
		}
		if err != nil {
			return nil, "", fmt.Errorf("%s: line %d: %w: want the fields of RULER's files", path, n,
				err)
		}
		all = append(all, r)
	}
	if err := lines.Err(); err != nil {
		return nil, "", fmt.Errorf("%s: %w", path, err)
	}
	if len(all) == 0 {
		has := "it has none"
		if len(others) > 0 {
			has = fmt.Sprintf("it has those of %v", slices.Sorted(keys(others)))
		}
		return nil, "", fmt.Errorf("%s: %w of %s: %s", path, evals.ErrNoSamples, task, has)
	}
	return all, "sha256:" + hex.EncodeToString(hash.Sum(nil)), nil
}

func keys(m map[string]bool) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

// fileDigest identifies a file.
func fileDigest(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	hash := sha256.New()
	if _, err := io.Copy(hash, f); err != nil {
		return "", err
	}
	return "sha256:" + hex.EncodeToString(hash.Sum(nil)), nil
}

// fromFile are the samples that were read, by length. A record without max_length belongs to the
// shortest length that holds it.
func (o *Options) fromFile(s evals.Setup, chat func(string) (string, error)) ([]set, error) {
	by := map[int][]Record{}
	for _, r := range o.read {
		length := r.MaxLength
		if length == 0 {
			for _, l := range slices.Sorted(slices.Values(s.Lengths)) {
				if l >= r.Length {
					length = l
					break
				}
			}
		}
		by[length] = append(by[length], r)
	}
	var sets []set
	for _, length := range s.Lengths {
		all := by[length]
		if len(all) == 0 {
			sets = append(sets, set{length: length, unfit: fmt.Errorf("%w: the file has no sample "+
				"of %s for this length", errUnfit, o.kind.Name)})
			continue
		}
		if o.Limit > 0 && o.Limit < len(all) {
			all = all[:o.Limit]
		}
		x := set{length: length, count: len(all)}
		x.prompt = func(i int) (prompt, error) {
			r := all[i]
			p := prompt{
				sample: r.Index, context: r.Context, input: r.Input, prefix: r.AnswerPrefix,
				references: r.Outputs,
			}
			if r.Length > 0 {
				p.size = r.Length - max(r.MaxNewTokens, o.kind.Answer)
			}
			return p, p.encode(s.Engine, chat)
		}
		sets = append(sets, x)
	}
	return sets, nil
}
