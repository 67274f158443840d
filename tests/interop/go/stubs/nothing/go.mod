module micro.interop/nothing
