module micro.interop/bson
