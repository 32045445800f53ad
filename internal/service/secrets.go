package service

import (
	"encoding/json"
	"errors"
	"strconv"
	"strings"

	"vedette/internal/uptime"
)

// asInvalid is err's uptime.Error if it is of kind Invalid.
func asInvalid(err error) (*uptime.Error, bool) {
	e, ok := errors.AsType[*uptime.Error](err)
	return e, ok && e.Kind == uptime.Invalid
}

// restoreSecrets puts stored secrets back where an update sends the placeholder
// that a read shows in their place. A placeholder without a stored secret behind
// it is a problem of that field: it must never be stored as if it were one.
func restoreSecrets(p *uptime.Problems, config, stored json.RawMessage) json.RawMessage {
	var have, old any
	if json.Unmarshal(config, &have) != nil {
		return config // the provider says what is wrong with it
	}
	_ = json.Unmarshal(stored, &old) // unreadable: there is nothing to restore
	out, err := json.Marshal(restore(p, "config", have, old))
	if err != nil {
		return config
	}
	return out
}

func restore(p *uptime.Problems, path string, have, old any) any {
	switch v := have.(type) {
	case string:
		s, _ := old.(string)
		if shown, ok := strings.CutSuffix(v, "/"+uptime.Redacted); ok && strings.HasPrefix(s, shown+"/") {
			return s // a URL of which the host is shown
		}
		if v != uptime.Redacted {
			return v
		}
		if s != "" {
			return s
		}
		p.Add(path, "is the placeholder for a secret, and none is stored here; give the secret itself")
		return v
	case map[string]any:
		o, _ := old.(map[string]any)
		for k := range v {
			v[k] = restore(p, path+"."+k, v[k], o[k])
		}
		return v
	case []any:
		o, _ := old.([]any)
		for i := range v {
			var oi any
			if i < len(o) {
				oi = o[i]
			}
			v[i] = restore(p, path+"["+strconv.Itoa(i)+"]", v[i], oi)
		}
		return v
	}
	return have
}
