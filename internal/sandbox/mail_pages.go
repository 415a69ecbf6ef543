package sandbox

import (
	"net/http"
	"slices"
)

const mailPath = "/sandbox/mail"

// mailModel is the page of messages.
type mailModel struct {
	Addr, Wanted string
	Limit        int
	To           string
	Letters      []Letter
	Faults       []Fault
	Presets      []faultPreset
}

var mailPresets = []faultPreset{
	{"Refuse the next recipient for now (451)", `[{"match":"mail *","do":"451"}]`},
	{"Refuse every recipient for good (550)", `[{"match":"mail *","do":"550","times":-1}]`},
	{"Hang up after the next message, and lose it", `[{"match":"mail *","do":"cut"}]`},
	{"Hang up after the next message, but keep it", `[{"match":"mail *","do":"cut_after_acting"}]`},
	{"Take 5 seconds for the next message", `[{"match":"mail *","do":"delay","ms":5000}]`},
}

// mount puts the page, what tests read, and the controls on the mux.
func (m *Mail) mount(mux *http.ServeMux) {
	mux.HandleFunc("GET "+mailPath, m.showList)
	mux.HandleFunc("GET "+mailPath+"/{id}", m.showLetter)
	mux.HandleFunc("GET "+mailPath+".json", func(w http.ResponseWriter, r *http.Request) {
		writeJSON(w, http.StatusOK, map[string]any{"messages": m.Letters(r.FormValue("to"))})
	})
	controlFaults(controls(mux, mailPath, mailPath), &m.faults)
}

func (m *Mail) showList(w http.ResponseWriter, r *http.Request) {
	model := mailModel{
		Addr: m.addr, Wanted: m.wanted, Limit: mailKept, To: r.FormValue("to"), Faults: m.Faults(), Presets: mailPresets,
	}
	model.Letters = m.Letters(model.To)
	writePage(r.Context(), m.log, w, http.StatusOK, "mail.html", model)
}

func (m *Mail) showLetter(w http.ResponseWriter, r *http.Request) {
	all := m.newestFirst("")
	i := slices.IndexFunc(all, func(one *mailed) bool { return one.key() == r.PathValue("id") })
	if i < 0 {
		writePage(r.Context(), m.log, w, http.StatusNotFound, "notice.html", notice{Title: "No such message", Text: "It was never sent here, or newer ones have taken its place."})
		return
	}
	writePage(r.Context(), m.log, w, http.StatusOK, "letter.html", struct {
		Letter

		Raw string
	}{all[i].letter(), string(all[i].Raw)})
}
