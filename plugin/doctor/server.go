package doctor

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/longrope/longrope/patches"
)

// examineServer says what runs on the port of the server. The result is whether models run with
// their ladders there: true too when none runs, since "ollama serve" would be this program.
func (m machine) examineServer(ctx context.Context, r *report) bool {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	q, err := http.NewRequestWithContext(ctx, http.MethodGet, m.host+"/api/version", nil)
	if err != nil {
		r.add(Fault, "server", fmt.Sprintf("OLLAMA_HOST: %s is not an address: %v", m.host, err))
		return true
	}
	response, err := http.DefaultClient.Do(q)
	if err != nil {
		r.add(Note, "server", "none answers at "+m.host+"; ollama serve starts one")
		return true
	}
	defer response.Body.Close()
	var said struct{ Version, Longrope string }
	if err := json.NewDecoder(response.Body).Decode(&said); err != nil || said.Version == "" {
		r.add(Fault, "server", "the program at "+m.host+" is no ollama; "+
			"OLLAMA_HOST=127.0.0.1:PORT takes another port")
		return true
	}
	switch own := strings.TrimPrefix(patches.Version(), "v"); {
	case said.Longrope == "":
		r.add(Fault, "server", fmt.Sprintf("%s is ollama %s, without longrope: it ignores "+
			"ladders; stop it, or OLLAMA_HOST=127.0.0.1:PORT takes another port", m.host,
			said.Version))
		return false
	case said.Longrope != own:
		r.add(Note, "server", fmt.Sprintf("%s is longrope %s, this program is %s; start it again",
			m.host, said.Longrope, own))
	default:
		r.add(OK, "server", fmt.Sprintf("%s is longrope %s", m.host, said.Longrope))
	}
	return true
}
