package probe

import (
	"github.com/twmb/franz-go/pkg/kbin"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// kafkaMetadata is an answer to Metadata, of which a check needs a few numbers. The
// library makes of a hostile one 25 times its bytes, and a large topic takes a large
// one, so that its size cannot be the bound. The fields are those of
// https://kafka.apache.org/protocol.html#The_Messages_Metadata.
type kafkaMetadata struct {
	kmsg.MetadataResponse // of it, the version only

	brokers    int
	controller int32 // negative: there is none; before version 1 nobody tells
	topics     int
	err        int16 // of the first topic
	partitions int   // of all topics
	leaderless int   // of them
}

// MaxVersion implements kmsg.Response: the newest version that ReadFrom knows.
func (*kafkaMetadata) MaxVersion() int16 { return 12 }

// ReadFrom implements kmsg.Response.
func (m *kafkaMetadata) ReadFrom(b []byte) error {
	r := kafkaReader{Reader: kbin.Reader{Src: b}, flexible: m.IsFlexible()}
	if m.Version >= 3 {
		r.Int32() // for how long the broker throttles
	}
	for range r.array() {
		m.brokers++
		r.Int32() // id
		r.text()  // host
		r.Int32() // port
		if m.Version >= 1 {
			r.text() // rack
		}
		r.tags()
		if !r.Ok() {
			break
		}
	}
	if m.Version >= 2 {
		r.text() // id of the cluster
	}
	if m.Version >= 1 {
		m.controller = r.Int32()
	}
	for range r.array() {
		m.topic(&r)
		if !r.Ok() {
			break
		}
	}
	if m.Version >= 8 && m.Version <= 10 {
		r.Int32() // what we may do
	}
	r.tags()
	return r.Complete()
}

func (m *kafkaMetadata) topic(r *kafkaReader) {
	err := r.Int16()
	if m.topics++; m.topics == 1 {
		m.err = err
	}
	r.text() // name
	if m.Version >= 10 {
		r.Span(16) // id
	}
	if m.Version >= 1 {
		r.Bool() // whether it is Kafka's own
	}
	for range r.array() {
		m.partitions++
		r.Int16() // error: of a replica, or that there is no leader
		r.Int32() // number
		if r.Int32() < 0 {
			m.leaderless++
		}
		if m.Version >= 7 {
			r.Int32() // epoch of the leader
		}
		r.numbers() // replicas
		r.numbers() // those in sync
		if m.Version >= 5 {
			r.numbers() // those offline
		}
		r.tags()
		if !r.Ok() {
			return
		}
	}
	if m.Version >= 8 {
		r.Int32() // what we may do
	}
	r.tags()
}

// kafkaReader passes over fields, which are written differently in flexible versions
// (KIP-482). A length that is not there makes it not Ok.
type kafkaReader struct {
	kbin.Reader
	flexible bool
}

// array is how many items come; as many bytes are there.
func (r *kafkaReader) array() int32 {
	if r.flexible {
		return r.CompactArrayLen()
	}
	return r.ArrayLen()
}

func (r *kafkaReader) text() {
	n := 0
	if r.flexible {
		n = int(r.Uvarint()) - 1
	} else {
		n = int(r.Int16())
	}
	r.Span(max(n, 0)) // -1: null
}

func (r *kafkaReader) numbers() { r.Span(4 * int(max(r.array(), 0))) }

func (r *kafkaReader) tags() {
	if r.flexible {
		kmsg.SkipTags(&r.Reader)
	}
}
