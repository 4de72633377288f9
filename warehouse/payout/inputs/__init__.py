"""What a close reads besides flattrs: pledges, creators, adjustments."""
