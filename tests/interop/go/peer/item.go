package main

import "fmt"

// Item is what every endpoint takes and gives, as protobuf and as JSON.
type Item struct {
	Text   string `protobuf:"bytes,1,opt,name=text,proto3" json:"text,omitempty"`
	Body   []byte `protobuf:"bytes,2,opt,name=body,proto3" json:"body,omitempty"`
	Number int64  `protobuf:"varint,3,opt,name=number,proto3" json:"number,omitempty"`
}

func (i *Item) Reset()         { *i = Item{} }
func (i *Item) String() string { return fmt.Sprintf("%q, %d bytes, %d", i.Text, len(i.Body), i.Number) }
func (*Item) ProtoMessage()    {}

// Note is a plain struct, as services without generated code have it.
type Note struct {
	Text string `json:"text"`
}

// Health is what Debug.Health answers.
type Health struct {
	Status string `protobuf:"bytes,1,opt,name=status,proto3" json:"status,omitempty"`
}

func (h *Health) Reset()         { *h = Health{} }
func (h *Health) String() string { return h.Status }
func (*Health) ProtoMessage()    {}
