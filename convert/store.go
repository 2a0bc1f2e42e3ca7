package convert

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"sort"
	"strings"

	"github.com/ollama/ollama/envconfig"
	"github.com/ollama/ollama/types/model"

	"github.com/longrope/longrope/convert/atomicfile"
	"github.com/longrope/longrope/convert/gguf"
	"github.com/longrope/longrope/ropescale/jsontext"
)

// The store is a folder of blobs, each named by the SHA-256 of its content, and a folder of
// manifests, one for each model name: manifests/HOST/NAMESPACE/MODEL/TAG is JSON that lists a
// config blob and layers (the GGUF, template, system prompt, parameters, licence). The host's own
// package for it writes manifests in place and makes folders as it reads; here a manifest appears
// by rename after all that it names, and reading changes nothing.

// Media types of layers that are looked at. All others are kept as they are.
const (
	mediaModel    = "application/vnd.ollama.image.model"
	mediaTensor   = "application/vnd.ollama.image.tensor"
	mediaTemplate = "application/vnd.ollama.image.template"
	mediaParams   = "application/vnd.ollama.image.params"
	mediaConfig   = "application/vnd.docker.container.image.v1+json"
	mediaManifest = "application/vnd.docker.distribution.manifest.v2+json"
)

var (
	// ErrNoStore: there is no Ollama store where one was looked for.
	ErrNoStore = errors.New("no Ollama store")
	// ErrUnknownModel: the store has no model of that name.
	ErrUnknownModel = errors.New("no model of that name in the Ollama store")
	// ErrNoGGUF: the model's weights are elsewhere, or in files of another form.
	ErrNoGGUF = errors.New("the store has no GGUF of the model")
	// ErrCorruptBlob: a blob of the store is not what its name says.
	ErrCorruptBlob = errors.New("corrupt blob")
)

// maxSmallBlob caps manifests, configurations and parameters, which are read into memory.
const maxSmallBlob = 1 << 20

// Store is a local Ollama store.
type Store struct {
	Dir string
}

type manifest struct {
	SchemaVersion int     `json:"schemaVersion"`
	MediaType     string  `json:"mediaType"`
	Config        layer   `json:"config"`
	Layers        []layer `json:"layers"`
}

type layer struct {
	MediaType string `json:"mediaType"`
	Digest    string `json:"digest"`
	Size      int64  `json:"size"`
	From      string `json:"from,omitempty"`
	Name      string `json:"name,omitempty"`
}

// OpenStore opens the store at dir; "" is where the host has it: OLLAMA_MODELS, or .ollama/models
// in the home folder.
func OpenStore(dir string) (*Store, error) {
	if dir == "" {
		dir = envconfig.Models()
	}
	if fi, err := os.Stat(filepath.Join(dir, "manifests")); err != nil || !fi.IsDir() {
		return nil, fmt.Errorf("%w at %s; pull or create a model first, or set OLLAMA_MODELS to "+
			"the store (a system service keeps its own, often "+
			"/usr/share/ollama/.ollama/models)", ErrNoStore, dir)
	}
	return &Store{Dir: dir}, nil
}

// Names lists the models of the store, as short as the host shows them, sorted.
func (s *Store) Names() ([]string, error) {
	var names []string
	for _, n := range s.names() {
		names = append(names, n.DisplayShortest())
	}
	sort.Strings(names)
	return names, nil
}

func (s *Store) names() []model.Name {
	root := filepath.Join(s.Dir, "manifests")
	paths, _ := filepath.Glob(filepath.Join(root, "*", "*", "*", "*"))
	var names []model.Name
	for _, path := range paths {
		rel, err := filepath.Rel(root, path)
		if err != nil || strings.HasPrefix(filepath.Base(path), ".") {
			continue
		}
		if n := model.ParseNameFromFilepath(rel); n.IsValid() {
			names = append(names, n)
		}
	}
	return names
}

// parse turns what a user wrote into a full name, in the spelling of a model that exists, if one
// does.
func (s *Store) parse(name string) (n model.Name, exists bool, err error) {
	n = model.ParseName(name)
	if !n.IsValid() {
		return n, false, fmt.Errorf("%q is neither a file nor a valid model name", name)
	}
	for _, m := range s.names() {
		if m.EqualFold(n) && strings.EqualFold(m.Tag, n.Tag) {
			return m, true, nil
		}
	}
	return n, false, nil
}

// Find resolves a model name; without a tag it is "latest".
func (s *Store) Find(name string) (*Source, error) {
	n, exists, err := s.parse(name)
	if err != nil {
		return nil, err
	}
	if !exists {
		names, _ := s.Names()
		text := "; pull it first"
		switch near := nearest(n.DisplayShortest(), names); {
		case len(near) > 0:
			text = "; did you mean " + strings.Join(near, ", ") + "?"
		case len(names) == 0:
			text = "; the store is empty"
		}
		return nil, fmt.Errorf("%s: %w (%s)%s", name, ErrUnknownModel, s.Dir, text)
	}
	m, err := s.readManifest(n)
	if err != nil {
		return nil, err
	}
	src := &Source{Kind: KindStore, Name: n.DisplayShortest(), store: s, manifest: m}
	for _, l := range m.Layers {
		switch {
		case l.MediaType == mediaTensor:
			return nil, fmt.Errorf("%s: its tensors are separate files for MLX: %w", name,
				ErrNoGGUF)
		case isLadder(l):
			if err := src.readLadder(l); err != nil {
				return nil, err
			}
			continue
		case l.MediaType != mediaModel:
			continue
		case src.Path != "":
			return nil, fmt.Errorf("%s: its manifest has more than one model file", name)
		}
		src.Digest = l.Digest
		if src.Path, err = s.blobPath(l.Digest); err != nil {
			return nil, fmt.Errorf("%s: manifest: %w", name, err)
		}
		fi, err := os.Stat(src.Path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("%s: its model file %s is missing; pull the model again", name,
				src.Path)
		}
		if err != nil {
			return nil, err
		}
		if fi.Size() != l.Size {
			return nil, fmt.Errorf("%s: its model file %s has %d bytes, the manifest says %d; "+
				"pull the model again", name, src.Path, fi.Size(), l.Size)
		}
	}
	if src.Path == "" {
		return nil, fmt.Errorf("%s: %w; a cloud model cannot be converted", name, ErrNoGGUF)
	}
	return src, nil
}

// FindDigest returns the path of the blob with that content ("sha256:…"), which may be any model's.
// The content is not checked.
func (s *Store) FindDigest(digest string) (string, error) {
	path, err := s.blobPath(digest)
	if err != nil {
		return "", err
	}
	if _, err := os.Stat(path); err != nil {
		return "", fmt.Errorf("%s: %w (%s)", digest, ErrUnknownModel, s.Dir)
	}
	return path, nil
}

func (s *Store) manifestPath(n model.Name) string {
	return filepath.Join(s.Dir, "manifests", n.Filepath())
}

func (s *Store) readManifest(n model.Name) (*manifest, error) {
	path := s.manifestPath(n)
	b, err := readSmall(path)
	if err != nil {
		return nil, err
	}
	m := new(manifest)
	if err := jsontext.Plain(json.Unmarshal(b, m)); err != nil {
		return nil, fmt.Errorf("%s: not a manifest: %w; pull or create the model again", path, err)
	}
	return m, nil
}

var digestPattern = regexp.MustCompile(`^sha256[:-][0-9a-fA-F]{64}$`)

func (s *Store) blobPath(digest string) (string, error) {
	if !digestPattern.MatchString(digest) {
		return "", fmt.Errorf("%q is not a digest", gguf.Clip(digest))
	}
	return filepath.Join(s.Dir, "blobs", strings.ReplaceAll(digest, ":", "-")), nil
}

// readBlob reads a small blob, and checks its content against its name.
func (s *Store) readBlob(digest string) ([]byte, error) {
	path, err := s.blobPath(digest)
	if err != nil {
		return nil, err
	}
	b, err := readSmall(path)
	if err != nil {
		return nil, err
	}
	if !strings.EqualFold(digestOf(b)[7:], digest[7:]) {
		return nil, fmt.Errorf("%s: content does not match its digest; pull or create the model "+
			"again", path)
	}
	return b, nil
}

// writeBlob stores bytes.
func (s *Store) writeBlob(mediaType string, b []byte) (layer, error) {
	l := layer{MediaType: mediaType, Digest: digestOf(b), Size: int64(len(b))}
	path, err := s.blobPath(l.Digest)
	if err != nil {
		return l, err
	}
	if there, err := holds(path, l); err != nil || there {
		return l, err
	}
	if err := s.makeFolder(filepath.Dir(path)); err != nil {
		return l, err
	}
	return l, atomicfile.WriteBytes(path, b)
}

// makeFolder makes a folder of the store, if it is not there.
func (s *Store) makeFolder(path string) error {
	if err := os.MkdirAll(path, 0o755); err != nil {
		return fmt.Errorf("cannot write to the store in %s: %w; OLLAMA_MODELS names another",
			s.Dir, err)
	}
	return nil
}

// holds says whether the blob at path is there already; one that is cut short is not. One of other
// content is an error: a model must not adopt it.
func holds(path string, l layer) (bool, error) {
	fi, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if fi.Size() != l.Size {
		return false, nil
	}
	digest, err := FileDigest(path)
	if err != nil || digest == l.Digest {
		return err == nil, err
	}
	return false, fmt.Errorf("%s: %w: the blob is there and has other content than its name says; "+
		"remove it, and pull the models that use it again", path, ErrCorruptBlob)
}

// writeManifest puts a model into the store, once all that it consists of is there.
func (s *Store) writeManifest(n model.Name, m *manifest) error {
	path := s.manifestPath(n)
	if err := s.makeFolder(filepath.Dir(path)); err != nil {
		return err
	}
	b, err := encodeJSON(m)
	if err != nil {
		return err
	}
	return atomicfile.WriteBytes(path, b)
}

// encodeJSON writes as the host does: one line, and a line feed.
func encodeJSON(v any) ([]byte, error) {
	var b bytes.Buffer
	err := json.NewEncoder(&b).Encode(v)
	return b.Bytes(), err
}

func digestOf(b []byte) string {
	sum := sha256.Sum256(b)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// FileDigest is the digest of a file's content, as the store names it: "sha256:…".
func FileDigest(path string) (string, error) {
	f, err := atomicfile.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", fmt.Errorf("%s: %w", path, err)
	}
	return "sha256:" + hex.EncodeToString(h.Sum(nil)), nil
}

func readSmall(path string) ([]byte, error) {
	fi, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if fi.Size() > maxSmallBlob {
		return nil, fmt.Errorf("%s: %d bytes, expected at most %d", path, fi.Size(), maxSmallBlob)
	}
	return atomicfile.Read(path)
}

// nearest picks up to three names that a user may have meant: those that contain the name or are
// contained, else those within a third of its letters.
func nearest(name string, names []string) []string {
	type scored struct {
		name  string
		score int
	}
	short := strings.TrimSuffix(strings.ToLower(name), ":latest")
	var all []scored
	for _, n := range names {
		m := strings.TrimSuffix(strings.ToLower(n), ":latest")
		base, _, _ := strings.Cut(m, ":")
		d := min(distance(short, m), distance(short, base))
		if strings.Contains(m, short) || strings.Contains(short, base) {
			d = 0
		}
		if d <= max(2, len(short)/3) {
			all = append(all, scored{n, d})
		}
	}
	sort.Slice(all, func(i, j int) bool {
		return all[i].score < all[j].score || all[i].score == all[j].score &&
			all[i].name < all[j].name
	})
	var near []string
	for _, s := range all[:min(3, len(all))] {
		near = append(near, s.name)
	}
	return near
}

// distance is Levenshtein's, in bytes.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
