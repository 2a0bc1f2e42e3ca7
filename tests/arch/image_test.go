package arch

import (
	"bytes"
	"image"
	"image/color"
	"image/png"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/longrope/longrope/ropescale"
	"github.com/longrope/longrope/tests/session"
)

// Vision towers of 2 blocks, 32 wide, with patches of 4 by 4 pixels of which 2 by 2 become a token.
var towers = map[string]struct {
	kv      kv
	tensors shapes
	span    func(w, h int) int // positions that an image of so many tokens takes
}{
	"qwen25vl": {
		kv: kv{
			"vision.block_count": uint32(2), "vision.embedding_length": uint32(32),
			"vision.attention.head_count": uint32(2), "vision.patch_size": uint32(4),
			"vision.window_size": uint32(32),
		},
		tensors: shapes{
			"v.patch_embd_0.weight": {4, 4, 3, 32}, "v.patch_embd_1.weight": {4, 4, 3, 32},
			"v.blk.%d.ln1.weight": {32}, "v.blk.%d.ln2.weight": {32},
			"v.blk.%d.attn_q.weight": {32, 32}, "v.blk.%d.attn_k.weight": {32, 32},
			"v.blk.%d.attn_v.weight": {32, 32}, "v.blk.%d.attn_out.weight": {32, 32},
			"v.blk.%d.ffn_gate.weight": {32, 64}, "v.blk.%d.ffn_up.weight": {32, 64},
			"v.blk.%d.ffn_down.weight": {64, 32},
			"v.merger.ln_q.weight":     {32}, "v.merger.mlp.0.weight": {128, 128},
			"v.merger.mlp.2.weight": {128, 64},
		},
		span: func(w, h int) int { return max(w, h) },
	},
	"qwen3vl": {
		kv: kv{
			"vision.block_count": uint32(2), "vision.embedding_length": uint32(32),
			"vision.attention.head_count": uint32(2), "vision.patch_size": uint32(4),
			"vision.num_positional_embeddings": uint32(64), "vision.shortest_edge": uint32(3136),
		},
		tensors: shapes{
			"v.patch_embed.weight": {4, 4, 2, 96}, "v.pos_embed.weight": {32, 64},
			"v.blk.%d.norm1.weight": {32}, "v.blk.%d.norm1.bias": {32},
			"v.blk.%d.norm2.weight": {32}, "v.blk.%d.norm2.bias": {32},
			"v.blk.%d.attn_q.weight": {32, 32}, "v.blk.%d.attn_k.weight": {32, 32},
			"v.blk.%d.attn_v.weight": {32, 32}, "v.blk.%d.attn_out.weight": {32, 32},
			"v.blk.%d.mlp.linear_fc1.weight": {32, 64}, "v.blk.%d.mlp.linear_fc2.weight": {64, 32},
			"v.merger.norm.weight": {32}, "v.merger.norm.bias": {32},
			"v.merger.linear_fc1.weight": {128, 128}, "v.merger.linear_fc2.weight": {128, 64},
		},
		span: func(w, _ int) int { return w },
	},
}

// picture is noise of w by h pixels.
func picture(t *testing.T, w, h int) []byte {
	t.Helper()
	img := image.NewRGBA(image.Rect(0, 0, w, h))
	rng := rand.New(rand.NewPCG(1, 1))
	for i := range w * h {
		v := rng.Uint32()
		img.Set(i%w, i/w, color.RGBA{uint8(v), uint8(v >> 8), uint8(v >> 16), 255})
	}
	var b bytes.Buffer
	require.NoError(t, png.Encode(&b, img))
	return b.Bytes()
}

// An image in the Go engine: what the vision tower sees is the same with a ladder and without, bit
// for bit, and its own RoPE takes no rows. The text model's takes them at the image's positions,
// which differ in time, height and width, and the row of a token is that of its time.
func TestImage(t *testing.T) {
	const w, h = 9, 6 // tokens
	for name, tower := range towers {
		t.Run(name, func(t *testing.T) {
			c := &candidate{T: t, arch: name, hint: Hints[name], dir: t.TempDir()}
			if c.hint.Like != "" {
				c.arch = c.hint.Like
			}
			start, tensors := c.hint.Start(c.arch)
			m, err := discover(start, tensors, c.dir, c.tryOpen)
			require.NoError(t, err)
			m = renamed(m, c.arch, name)
			c.arch = name
			set(m.KV, name, tower.kv)
			for tensor, shape := range tower.tensors {
				for _, tensor := range perLayer(tensor, 2) {
					m.Tensors[tensor] = shape
				}
			}
			inTower := 0 // RoPE nodes
			var values [2][][]float32
			var nodes [2][]session.Node
			for i, file := range []*Model{m, m.WithLadder(name, Plain(8), Ladder(8))} {
				s, err := c.goOpen(c.goFile(file, "gpt2"))
				require.NoError(t, err)
				defer s.Close()
				img, err := s.Encode(picture(t, 8*w, 8*h))
				require.NoError(t, err)
				require.Equal(t, w*h, img.Tokens())
				values[i] = img.Values
				for _, n := range s.Watched() {
					if n.Rope {
						require.Nil(t, n.Factors, "the tower's RoPE %s takes factors", n.Name)
						inTower++
					}
				}
				if i == 1 {
					s.SetRung(0, 2)
				}
				require.NoError(t, s.DecodeImage(ids(2), img, ids(6)))
				for _, n := range s.Watched() {
					if n.Rope {
						nodes[i] = append(nodes[i], n)
					}
				}
			}
			assert.Equal(t, values[0], values[1], "the tower with a ladder")
			assert.Equal(t, name == "qwen25vl", inTower > 0,
				"qwen25vl's tower has RoPE nodes, qwen3vl's computes it by hand")

			at := func(i int) [4]int { // two tokens, the mark, the image, the mark, six tokens
				switch {
				case i < 3:
					return textAt(i)
				case i < 3+w*h:
					return [4]int{3, 3 + (i-3)/w, 3 + (i-3)%w, 0}
				}
				return textAt(i - w*h + tower.span(w, h))
			}
			checkImage(t, nodes[0], nodes[1], at, 3+w*h+1+6)
		})
	}
}

// checkImage holds RoPE nodes of n tokens at given positions against the oracle, without a ladder
// and on its rung 2.
func checkImage(t *testing.T, plain, laddered []session.Node, at func(i int) [4]int, n int) {
	t.Helper()
	require.NotEmpty(t, plain)
	require.Len(t, laddered, len(plain))
	top := Ladder(plain[0].Dims / 2)[1]
	worst := 0.0
	for i, node := range plain {
		require.Equal(t, n, node.Tokens)
		g, err := own(node)
		require.NoError(t, err)
		assert.Less(t, deviationAt(node, at, func(int) ropescale.Rung { return g }), bound,
			"%s without a ladder", node.Name)
		d := deviationAt(laddered[i], at, func(pos int) ropescale.Rung {
			if pos < top.StartWindow {
				return g
			}
			return top
		})
		assert.Less(t, d, bound, node.Name)
		worst = max(worst, d)
		require.Len(t, laddered[i].Positions, 5*n, "four planes and rows")
		rows := laddered[i].Positions[4*n:]
		require.True(t, slices.Contains(rows, 0) && slices.Contains(rows, 2),
			"the case needs tokens of both rows")
	}
	t.Logf("%d RoPE nodes: worst deviation %.1e of %g", len(plain), worst, bound)
}

// The same in the llama.cpp engine, to which an image is a batch of embeddings: the tower is a
// graph of another library there, on which no ladder acts.
func TestImageEmbeddings(t *testing.T) {
	// the start window ends at 5: the image is within, what follows it is not
	const w, h, first = 5, 3, 4
	for _, name := range []string{"qwen2vl", "qwen3vl"} {
		t.Run(name, func(t *testing.T) {
			c := &candidate{T: t, arch: name, hint: Hints[name], dir: t.TempDir()}
			start, tensors := c.hint.Start(name)
			m, err := discover(start, tensors, c.dir, c.tryOpen)
			require.NoError(t, err)
			at := func(i int) [4]int {
				if i < w*h {
					return [4]int{first, first + i/w, first + i%w, 0}
				}
				return [4]int{first + w + i - w*h, first + w + i - w*h, first + w + i - w*h, 0}
			}
			const n = w*h + 2
			var places [][4]int
			var embeddings [][]float32
			for i := range n {
				places = append(places, at(i))
				embeddings = append(embeddings, values("image", []int{64, n})[64*i:][:64])
			}
			var nodes [2][]session.Node
			for i, file := range []*Model{m, m.WithLadder(name, Plain(8), Ladder(8))} {
				path := filepath.Join(c.dir, "image.gguf")
				require.NoError(t, file.Save(path, true))
				o := c.options()
				o.Watch = true
				s, err := session.Open(path, o)
				require.NoError(t, err)
				defer s.Close()
				if i == 1 {
					require.NoError(t, s.SetRung(0, 2))
				}
				_, err = s.Prefill(ids(first), 0, 0, first)
				require.NoError(t, err)
				s.Watched()
				require.NoError(t, s.DecodeImage(embeddings, places, 0))
				for _, node := range s.Watched() {
					if node.Rope {
						nodes[i] = append(nodes[i], node)
					}
				}
			}
			checkImage(t, nodes[0], nodes[1], at, n)
		})
	}
}
