package convert

import "github.com/longrope/longrope/convert/gguf"

// CacheKinds are the types of cached keys and values that the host has, OLLAMA_KV_CACHE_TYPE.
var CacheKinds = []string{"f16", "q8_0", "q4_0"}

// CacheBytes estimates the memory of the cached keys and values of n tokens: at most this, for
// models whose local layers keep a window only. 0 when the file does not say enough.
func (m *ModelInfo) CacheBytes(n int, kind string) uint64 {
	return cacheBytes(m.cacheElements, n, kind)
}

func cacheBytes(elements uint64, n int, kind string) uint64 {
	bytes, of := uint64(2), uint64(1)
	switch kind {
	case "q8_0": // blocks of 32, each with a scale
		bytes, of = 34, 32
	case "q4_0":
		bytes, of = 18, 32
	}
	return uint64(n) * elements * bytes / of
}

// cacheElements is the number of cached elements of a token, of keys and values in all layers.
func cacheElements(f *gguf.File) uint64 {
	arch, _, _ := f.String("general.architecture")
	get := func(name string) uint64 { n, _ := f.Most(arch + "." + name); return uint64(n) }
	heads, kv, layers := get("attention.head_count"), get("attention.head_count_kv"),
		get("block_count")
	if heads == 0 {
		return 0
	}
	if kv == 0 {
		kv = heads
	}
	key, value := get("attention.key_length"), get("attention.value_length")
	if key == 0 {
		key = get("embedding_length") / heads
	}
	if value == 0 {
		value = key
	}
	return layers * kv * (key + value)
}
