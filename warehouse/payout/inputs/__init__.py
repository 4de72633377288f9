"""What a close reads beside flattrs: pledges, creators, adjustments."""
